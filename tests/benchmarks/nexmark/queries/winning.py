"""Q4, Q6, Q9: the winning bid of each auction, found by a custom merging window, and averages over those."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.coders.coders import Coder, IntervalWindowCoder
from apache_beam.transforms import trigger, window
from apache_beam.utils.timestamp import Duration, Timestamp

from tests.benchmarks.nexmark.generator import longest_auction
from tests.benchmarks.nexmark.model import Auction, Bid, Config, Event
from tests.benchmarks.nexmark.queries.simple import is_person, just_auctions, just_bids

LAST_AUCTIONS = 10


class Winner(NamedTuple):
    """A closed auction and the bid that won it."""

    auction: Auction
    bid: Bid


class SaleWindows(window.WindowFn):
    """Brings bids into the window of their auction, without any global state.

    Elements have to be keyed by auction when windows merge. An auction's window is the time it is open; a bid's window
    is longer than any auction is open, and this length tells it from an auction's (so plain interval windows do).

    Args:
        longest_ms: how long an auction is open at most (ms).
    """

    def __init__(self, longest_ms: int) -> None:
        self.bid_span = Duration(micros=(longest_ms + 1_000) * 1_000)

    def assign(self, assign_context: window.WindowFn.AssignContext) -> list[window.IntervalWindow]:
        event, at = assign_context.element, assign_context.timestamp
        if isinstance(event, Auction):
            return [window.IntervalWindow(at, Timestamp(micros=event.expires * 1_000))]
        return [window.IntervalWindow(at, at + self.bid_span)]

    def merge(self, merge_context: window.WindowFn.MergeContext) -> None:
        auctions, bids = [], []
        for sale in merge_context.windows:
            (bids if sale.end - sale.start == self.bid_span else auctions).append(sale)
        for auction in auctions:
            in_time = [bid for bid in bids if bid.start < auction.end]
            if in_time:
                merge_context.merge([*in_time, auction], auction)

    def get_window_coder(self) -> Coder:
        return IntervalWindowCoder()


def best(bids: Iterable[Bid], auction: Auction) -> Bid | None:
    """The highest, then earliest bid in time that reaches the reserve."""
    valid = (bid for bid in bids if bid.price >= auction.reserve and bid.date_time < auction.expires)
    return min(valid, key=lambda bid: (-bid.price, bid.date_time, bid.bidder), default=None)


def choose(element: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[Winner]:
    """The winner of each auction of a group."""
    _, group = element
    for auction in group["auctions"]:
        bid = best(group["bids"], auction)
        if bid is not None:
            yield Winner(auction, bid)


def winning_bids(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Winner]:
    """Each closed auction with its winning bid, at the moment it closes."""
    sales = (
        events
        | "auctions and bids" >> beam.Filter(lambda event: not is_person(event))
        | "sale windows" >> beam.WindowInto(SaleWindows(longest_auction(config)))
    )
    auctions = just_auctions(sales) | "by id" >> beam.Map(lambda auction: (auction.id, auction))
    bids = just_bids(sales) | "by auction" >> beam.Map(lambda bid: (bid.auction, bid))
    return {"auctions": auctions, "bids": bids} | beam.CoGroupByKey() | "choose" >> beam.FlatMap(choose)


def with_window_end(element: Any, at: Any = beam.DoFn.WindowParam) -> tuple[Any, ...]:
    """The element's fields and the end of its window (ms)."""
    return (*element, at.end.micros // 1_000)


def query4(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Average price for a category: (category, mean winning price, window end) in sliding windows."""
    windows = window.SlidingWindows(config.window_ms / 1_000, config.period_ms / 1_000)
    return (
        winning_bids(events, config)
        | "by category" >> beam.Map(lambda winner: (winner.auction.category, winner.bid.price))
        | "sliding" >> beam.WindowInto(windows)
        | "mean" >> beam.combiners.Mean.PerKey()
        | "with window" >> beam.Map(with_window_end)
    )


class LastMean(beam.CombineFn):
    """The mean price of the last auctions to close; elements are (closing time, auction, price)."""

    def __init__(self, count: int) -> None:
        self.count = count

    def create_accumulator(self) -> list[tuple[int, int, int]]:
        return []

    def add_input(self, accumulator: list[Any], element: tuple[int, int, int]) -> list[Any]:
        accumulator.append(element)
        if len(accumulator) > self.count:
            accumulator.remove(min(accumulator))
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        return sorted(sale for accumulator in accumulators for sale in accumulator)[-self.count :]

    def extract_output(self, accumulator: list[Any]) -> int:
        return sum(price for _, _, price in accumulator) // len(accumulator) if accumulator else 0


def with_pane(element: tuple[int, int], pane: Any = beam.DoFn.PaneInfoParam) -> tuple[int, int, int]:
    """(seller, number of the pane, mean): the mean of the highest pane is the latest."""
    return element[0], pane.index, element[1]


def last_means(sales: beam.PCollection[Winner]) -> beam.PCollection[Any]:
    """By seller, the mean price of the last ten auctions that closed, anew as each closes."""
    return (
        sales
        | "by seller"
        >> beam.Map(lambda sale: (sale.auction.seller, (sale.auction.expires, sale.auction.id, sale.bid.price)))
        | "as they close"
        >> beam.WindowInto(
            window.GlobalWindows(),
            trigger=trigger.Repeatedly(trigger.AfterCount(1)),
            accumulation_mode=trigger.AccumulationMode.ACCUMULATING,
        )
        | "mean of the last" >> beam.CombinePerKey(LastMean(LAST_AUCTIONS))
        | "with pane" >> beam.Map(with_pane)
    )


def query6(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Average selling price by seller over their last ten closed auctions, given out as auctions close."""
    return last_means(winning_bids(events, config))


def query9(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Winning bids: (auction, bidder, price, time of the bid)."""
    return winning_bids(events, config) | "project" >> beam.Map(
        lambda winner: (winner.auction.id, winner.bid.bidder, winner.bid.price, winner.bid.date_time)
    )
