"""The layered layout behind the SVG picture."""

from __future__ import annotations

import itertools
import random

from sage.jobs.cli.layout import lay_out


def test_a_chain_is_straight():
    layout = lay_out({"a": 100, "b": 60, "c": 140}, [("a", "b"), ("b", "c")])

    assert [layout.boxes[name].layer for name in "abc"] == [0, 1, 2]
    assert len({round(layout.boxes[name].x, 3) for name in "abc"}) == 1


def test_a_long_edge_passes_every_layer_between():
    layout = lay_out(dict.fromkeys("abcd", 80.0), [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")])

    assert [box.layer for box in layout.routes["a", "d"]] == [0, 1, 2, 3]


def test_a_source_that_is_needed_late_stands_next_to_its_reader():
    layout = lay_out(dict.fromkeys("sabc", 80.0), [("a", "b"), ("b", "c"), ("s", "c")])

    assert layout.boxes["s"].layer == 1


def test_boxes_of_random_graphs_never_touch_and_edges_go_down():
    dice = random.Random(7)
    for size in range(1, 25):
        names = [f"n{n}" for n in range(size)]
        widths = {name: dice.uniform(40, 300) for name in names}
        edges = [pair for pair in itertools.combinations(names, 2) if dice.random() < 2 / size]
        layout = lay_out(widths, edges)
        for source, target in edges:
            assert layout.boxes[source].layer < layout.boxes[target].layer
        for one, other in itertools.combinations(layout.boxes.values(), 2):
            if one.layer == other.layer:
                assert abs(one.x - other.x) > (one.width + other.width) / 2
        assert all(round(box.x - box.width / 2, 6) >= 0 for box in layout.boxes.values())
        assert all(box.x + box.width / 2 <= layout.width + 1e-6 for box in layout.boxes.values())


def test_two_rows_are_put_in_the_order_without_crossings():
    edges = [("a", "z"), ("b", "y"), ("c", "x")]

    layout = lay_out(dict.fromkeys("abcxyz", 50.0), edges)

    upper = sorted("abc", key=lambda name: layout.boxes[name].x)
    lower = sorted("xyz", key=lambda name: layout.boxes[name].x)
    assert [dict(edges)[name] for name in upper] == lower


def test_nothing_to_lay_out():
    assert lay_out({}, []).layers == 0
