"""One element of a key within a length of time, whenever the watermark moves."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.transforms.window import FixedWindows, Sessions, TimestampedValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.testing import FN_API_RUNNER
from sage.transforms.deduplicate import Deduplicate
from tests.conformance.cases import stream
from tests.models.timeline import Endless, Keep, run


def kept(transform: Any, *events: Any) -> Counter[Any]:
    return run(lambda p: p | stream(*events) | transform | Keep("kept")).get("kept", Counter())


def first_of(events: Any, within: int) -> Counter[Any]:
    """What passes, slowly: whatever is not near to what passed before it."""
    passed: list[Any] = []
    for key, number, stamp in events:
        if all(key != other or abs(stamp - when) >= within for other, _, when in passed):
            passed.append((key, number, stamp))
    return Counter((repr((key, number)), stamp) for key, number, stamp in passed)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["a", None]), st.integers(0, 12)), max_size=14), st.data())
def test_it_does_not_depend_on_the_watermark(made: Any, data: Any) -> None:
    within = 3
    events = [(key, number, stamp) for number, (key, stamp) in enumerate(made)]
    parts: list[Any] = []
    mark = -1
    for place, (key, number, stamp) in enumerate(events):
        parts.append([((key, number), stamp)])
        # As far ahead as it is promised: elements may be behind it by less than `within`.
        least = min((time for *_, time in events[place + 1 :]), default=12) + within - 1
        if least > mark and data.draw(st.booleans()):
            mark = least
            parts.append(mark)
    assert kept(Deduplicate(within), *parts) == first_of(events, within)


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


@pytest.mark.parametrize(("runner", "options"), [(LocalRunner(), ["--workers=2"]), (FN_API_RUNNER, [])])
def test_other_runners(tmp_path: Path, runner: Any, options: list[str]) -> None:
    pairs = [(key, number) for number in range(40) for key in "abc"]
    with beam.Pipeline(runner=runner, options=beam.options.pipeline_options.PipelineOptions(options)) as p:
        rows = p | beam.Create(pairs, reshuffle=False) | beam.Map(lambda pair: TimestampedValue(pair, pair[1]))
        passed = rows | Endless() | Deduplicate(10)
        passed.is_bounded = True
        passed | beam.io.WriteToText(str(tmp_path / "out"), shard_name_template="")
    passed = [eval(line) for line in (tmp_path / "out").read_text(encoding="utf-8").splitlines()]
    # Which ones pass is a matter of the order in which they come; how many at least and at most is not.
    for key in "abc":
        stamps = sorted(number for other, number in passed if other == key)
        assert all(later - earlier >= 10 for earlier, later in itertools.pairwise(stamps))
        assert all(min(abs(number - stamp) for stamp in stamps) < 10 for number in range(40))
