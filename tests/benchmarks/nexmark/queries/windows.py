"""Q5, Q7, Q11, Q12: bids in sliding, fixed, session and processing-time windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms import trigger, window

from tests.benchmarks.nexmark.model import Bid, Config, Event
from tests.benchmarks.nexmark.queries.simple import just_bids
from tests.benchmarks.nexmark.queries.winning import with_window_end


class MostBids(beam.CombineFn):
    """The auctions with the most bids; elements are (auction, count), the result (auctions, count)."""

    def create_accumulator(self) -> tuple[list[int], int]:
        return [], 0

    def add_input(self, accumulator: tuple[list[int], int], element: tuple[int, int]) -> tuple[list[int], int]:
        auctions, most = accumulator
        auction, count = element
        if count > most:
            return [auction], count
        return ([*auctions, auction], most) if count == most else accumulator

    def merge_accumulators(self, accumulators: Iterable[tuple[list[int], int]]) -> tuple[list[int], int]:
        accumulators = list(accumulators)
        most = max((count for _, count in accumulators), default=0)
        return [auction for auctions, count in accumulators if count == most for auction in auctions], most

    def extract_output(self, accumulator: tuple[list[int], int]) -> tuple[list[int], int]:
        return accumulator


def each_auction(hottest: tuple[list[int], int]) -> Iterator[tuple[int, int]]:
    """(auction, count) of each of the hottest auctions."""
    auctions, count = hottest
    for auction in auctions:
        yield auction, count


def query5(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Hot items: (auction, bids, window end) of the auctions with the most bids in each sliding window."""
    windows = window.SlidingWindows(config.window_ms / 1_000, config.period_ms / 1_000)
    return (
        just_bids(events)
        | "sliding" >> beam.WindowInto(windows)
        | "auction" >> beam.Map(lambda bid: bid.auction)
        | "count" >> beam.combiners.Count.PerElement()
        | "hottest" >> beam.CombineGlobally(MostBids()).without_defaults()
        | "each" >> beam.FlatMap(each_auction)
        | "with window" >> beam.Map(with_window_end)
    )


def if_highest(bid: Bid, highest: int) -> Iterator[Bid]:
    if bid.price == highest:
        yield bid


def query7(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Highest bid of each fixed window, by a side input that is windowed alike."""
    bids = just_bids(events) | "window" >> beam.WindowInto(window.FixedWindows(config.window_ms / 1_000))
    highest = (
        bids | "price" >> beam.Map(lambda bid: bid.price) | "highest" >> beam.CombineGlobally(max).without_defaults()
    )
    return bids | "select" >> beam.FlatMap(if_highest, beam.pvalue.AsSingleton(highest))


def with_session(element: tuple[int, int], at: Any = beam.DoFn.WindowParam) -> tuple[int, int, int, int]:
    """(bidder, session start, session end, bids), instants in ms."""
    return element[0], at.start.micros // 1_000, at.end.micros // 1_000, element[1]


def query11(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """User sessions: how many bids a person made in each session; a full session is given out early."""
    return (
        just_bids(events)
        | "bidder" >> beam.Map(lambda bid: bid.bidder)
        | "sessions"
        >> beam.WindowInto(
            window.Sessions(config.window_ms / 1_000),
            trigger=trigger.AfterWatermark(early=trigger.AfterCount(config.max_log_events)),
            accumulation_mode=trigger.AccumulationMode.DISCARDING,
        )
        | "count" >> beam.combiners.Count.PerElement()
        | "with session" >> beam.Map(with_session)
    )


def query12(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Processing-time windows: how many bids a person made within so much time of the clock on the wall.

    How the bids fall into panes depends on the clock; their sum by bidder does not.
    """
    return (
        just_bids(events)
        | "bidder" >> beam.Map(lambda bid: bid.bidder)
        | "by the clock"
        >> beam.WindowInto(
            window.GlobalWindows(),
            trigger=trigger.Repeatedly(trigger.AfterProcessingTime(config.processing_window_ms // 1_000)),
            accumulation_mode=trigger.AccumulationMode.DISCARDING,
        )
        | "count" >> beam.combiners.Count.PerElement()
    )
