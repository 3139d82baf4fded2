"""Each Nexmark pipeline against its plain-Python reference, on a small stream (no timing here)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that

from tests.benchmarks import beams
from tests.benchmarks.nexmark.generator import PROPORTION, event, events
from tests.benchmarks.nexmark.model import Auction, Bid, Config, Person
from tests.benchmarks.nexmark.queries import QUERIES
from tests.benchmarks.nexmark.source import Replay

# 30 seconds of a slow auction site: several windows of each kind, auctions that close within them.
SMALL = Config(events_per_second=20, window_ms=5_000, period_ms=2_500, in_flight=10, auction_skip=7, log_shards=3)
COUNT = 600


def hold_equal(number: int, runner: Any, config: Config, *flags: str) -> None:
    """Run a query; the check of its results is a step of the pipeline, so it works in any process."""
    query, made = QUERIES[number], list(events(COUNT, config))

    def equal(outputs: list[Any]) -> None:
        wrong = query.differs(outputs, made, config)
        assert not wrong, f"Q{number}: {wrong}"

    with beam.Pipeline(runner=runner, options=beams.options(*flags)) as pipeline:
        stream = pipeline | beam.Create([COUNT]) | "events" >> beam.ParDo(Replay(config))
        assert_that(query.load(stream, config), equal)


@pytest.mark.parametrize("number", [number for number in QUERIES if number != 12])
def test_query_on_fn_api_runner(number: int, tmp_path: Path) -> None:
    hold_equal(number, beams.runner("fnapi"), dataclasses.replace(SMALL, log_dir=str(tmp_path)))


@pytest.mark.parametrize("flags", [(), ("--execution_path=general",), ("--workers=2",)], ids=["auto", "general", "two"])
@pytest.mark.parametrize("number", QUERIES)
def test_query_on_local_runner(number: int, flags: tuple[str, ...], tmp_path: Path) -> None:
    hold_equal(number, beams.runner("sage"), dataclasses.replace(SMALL, log_dir=str(tmp_path)), *flags)


def test_logs_in_several_panes(tmp_path: Path) -> None:
    hold_equal(10, beams.runner("sage"), dataclasses.replace(SMALL, log_dir=str(tmp_path), max_log_events=5))


def test_every_query_finds_something() -> None:
    made = list(events(COUNT, SMALL))
    empty = [number for number, query in QUERIES.items() if not query.reference(made, SMALL)]
    assert not empty, f"the small stream leaves queries {empty} without results, so nothing is tested"


def test_proportions() -> None:
    kinds = Counter(type(event) for event in events(PROPORTION * 10, SMALL))
    assert kinds == {Person: 10, Auction: 30, Bid: 460}


def test_event_is_a_function_of_its_number() -> None:
    assert list(events(100, SMALL, first=1_234)) == [event(number, SMALL) for number in range(1_234, 1_334)]


def test_bids_refer_to_what_is_there() -> None:
    people, auctions = set(), set()
    for happening in events(5_000, SMALL):
        if isinstance(happening, Person):
            people.add(happening.id)
        elif isinstance(happening, Auction):
            assert happening.seller in people
            assert happening.expires > happening.date_time
            auctions.add(happening.id)
        else:
            assert happening.auction in auctions
            assert happening.bidder in people
