"""Q4, Q6, Q9: the winning bid of each auction, found by a custom merging window, and averages over those."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.coders import Coder
from apache_beam.transforms import trigger, window
from apache_beam.utils.timestamp import Duration, Timestamp

from tests.benchmarks.nexmark.model import Auction, Bid, Config, Event
from tests.benchmarks.nexmark.queries.simple import is_person, just_auctions, just_bids

LAST_AUCTIONS = 10


class Winner(NamedTuple):
    """A closed auction and the bid that won it."""

    auction: Auction
    bid: Bid


class SaleWindow(window.IntervalWindow):
    """The window of an auction (while it is open) or of a bid (long enough to meet its auction)."""

    def __init__(self, start: Any, end: Any, auction: int, is_auction: bool) -> None:
        super().__init__(start, end)
        self.auction = auction
        self.is_auction = is_auction

    def _key(self) -> tuple[Any, ...]:
        return self.start.micros, self.end.micros, self.auction, self.is_auction

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SaleWindow) and self._key() == other._key()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: Any) -> bool:
        return bool(self._key() < other._key()) if isinstance(other, SaleWindow) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"SaleWindow({self.start}, {self.end}, auction={self.auction}, is_auction={self.is_auction})"


class SaleWindowCoder(Coder):
    """Start, end (µs), auction id and kind, in fixed width."""

    FORMAT = struct.Struct(">qqq?")

    def encode(self, value: SaleWindow) -> bytes:
        return self.FORMAT.pack(value.start.micros, value.end.micros, value.auction, value.is_auction)

    def decode(self, encoded: bytes) -> SaleWindow:
        start, end, auction, is_auction = self.FORMAT.unpack(encoded)
        return SaleWindow(Timestamp(micros=start), Timestamp(micros=end), auction, is_auction)

    def is_deterministic(self) -> bool:
        return True


class SaleWindows(window.WindowFn):
    """Brings bids into the window of their auction, without any global state.

    Args:
        expected_ms: how long an auction is expected to be open (ms).
    """

    def __init__(self, expected_ms: int) -> None:
        self.expected_ms = expected_ms

    def assign(self, assign_context: window.WindowFn.AssignContext) -> list[SaleWindow]:
        event, at = assign_context.element, assign_context.timestamp
        if isinstance(event, Auction):
            return [SaleWindow(at, Timestamp(micros=event.expires * 1_000), event.id, True)]
        return [SaleWindow(at, at + Duration(micros=self.expected_ms * 2_000), event.auction, False)]

    def merge(self, merge_context: window.WindowFn.MergeContext) -> None:
        auctions: dict[int, SaleWindow] = {}
        bids: dict[int, list[SaleWindow]] = {}
        for sale in merge_context.windows:
            if sale.is_auction:
                auctions[sale.auction] = sale
            else:
                bids.setdefault(sale.auction, []).append(sale)
        for number, auction in auctions.items():
            in_time = [bid for bid in bids.get(number, ()) if bid.start < auction.end]
            if in_time:
                merge_context.merge([*in_time, auction], auction)

    def get_window_coder(self) -> Coder:
        return SaleWindowCoder()


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
    expected_ms = config.in_flight * 50 * 1_000 // (3 * config.events_per_second)
    sales = (
        events
        | "auctions and bids" >> beam.Filter(lambda event: not is_person(event))
        | "sale windows" >> beam.WindowInto(SaleWindows(expected_ms))
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


def query6(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Average selling price by seller over their last ten closed auctions, given out as auctions close."""
    return (
        winning_bids(events, config)
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


def query9(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Winning bids: (auction, bidder, price, time of the bid)."""
    return winning_bids(events, config) | "project" >> beam.Map(
        lambda winner: (winner.auction.id, winner.bid.bidder, winner.bid.price, winner.bid.date_time)
    )
