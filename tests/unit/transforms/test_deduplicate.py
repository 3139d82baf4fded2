"""One element of a key within a length of time, whenever the watermark moves."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.transforms.window import FixedWindows, Sessions

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms import Deduplicate
from tests.conformance.cases import stream
from tests.models.timeline import Keep, run


def kept(transform: Any, *events: Any) -> Counter[Any]:
    return run(lambda p: p | stream(*events) | transform | Keep("kept")).get("kept", Counter())


def test_rows_by_columns_by_function_and_nulls_alike() -> None:
    rows = [({"k": None, "n": 1}, 0), ({"k": None, "n": 2}, 1), ({"k": 1, "n": 3}, 1), ({"k": 1.0, "n": 4}, 2)]
    for on in ("k", ["k"], lambda row: row["k"] and int(row["k"])):
        passed = kept(Deduplicate("5s", on=on), rows)
        assert passed == {("{'k': None, 'n': 1}", 0): 1, ("{'k': 1, 'n': 3}", 1): 1}


def test_state_is_gone_after_the_time() -> None:
    assert kept(Deduplicate(5), [(("k", 1), 10)], 20, [(("k", 2), 10)]).total() == 2
    assert kept(Deduplicate(5), [(("k", 1), 10)], 19, [(("k", 2), 10)]).total() == 1


def test_by_the_clock() -> None:
    events = ([(("k", 1), 50)], ("clock", 4), [(("k", 2), 0), (("j", 3), 0)], ("clock", 1), [(("k", 4), 0)])
    passed = kept(Deduplicate("5s", time="processing"), *events, ("clock", 20), [(("j", 5), 0)])
    assert passed == {("('k', 1)", 50): 1, ("('j', 3)", 0): 1, ("('k', 4)", 0): 1, ("('j', 5)", 0): 1}


def test_windows_keep_elements_apart() -> None:
    class Windowed(beam.PTransform):
        def expand(self, rows: Any) -> Any:
            return rows | beam.WindowInto(FixedWindows(10)) | Deduplicate(100)

    assert kept(Windowed(), [(("k", 1), 1), (("k", 2), 2), (("k", 3), 11)]).total() == 2


def test_wrong_values_are_refused() -> None:
    for make, why in (
        (partial(Deduplicate, 0), "within must be more than nothing"),
        (partial(Deduplicate, 1, time="clock"), "time must be event or processing"),
    ):
        with pytest.raises(ConfigError, match=why):
            make()
    p = beam.Pipeline(runner=LocalRunner())
    rows = p | beam.Create([("k", 1)])
    with pytest.raises(ConfigError, match="windows that merge"):
        rows | beam.WindowInto(Sessions(5)) | Deduplicate(1)
    with pytest.raises(ConfigError, match="has no column 'id'"):
        p | "rows" >> beam.Create([beam.Row(key=1)]) | "by id" >> Deduplicate(1, on="id")
