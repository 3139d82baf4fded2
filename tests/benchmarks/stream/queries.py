"""Queries as one writes them for a stream, where the batch benchmark has them in another way.

Q3 looks at each event once, as on the peers. Q4 and Q6 find the winning bid by keyed state and a timer; in batch
a custom merging window does it (`tests.benchmarks.nexmark.queries.winning`), as in Beam's own suite. A stream has each
auction before its bids, so the best bid so far is all there is to keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import PickleCoder
from apache_beam.transforms import window
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from tests.benchmarks.nexmark.model import Auction, Bid, Config, Event, Person
from tests.benchmarks.nexmark.queries.joins import CATEGORY, STATES, JoinByState
from tests.benchmarks.nexmark.queries.simple import is_person
from tests.benchmarks.nexmark.queries.winning import Winner, last_means

__all__ = ["query3", "query4", "query6"]


def is_local(event: Event) -> bool:
    if isinstance(event, Person):
        return event.state in STATES
    return isinstance(event, Auction) and event.category == CATEGORY


def by_person(event: Person | Auction) -> tuple[int, Person | Auction]:
    return (event.id if isinstance(event, Person) else event.seller), event


def query3(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Local item suggestion: (name, city, state, auction) of who sells in three states in category 10."""
    return (
        events
        | "local" >> beam.Filter(is_local)
        | "by person" >> beam.Map(by_person)
        | "join" >> beam.ParDo(JoinByState(config.max_wait_ms))
    )


def rank(bid: Bid) -> tuple[int, int, int]:
    return bid.price, -bid.date_time, -bid.bidder


class Winning(beam.DoFn):
    """The winner of an auction, when it closes.

    State, per auction: the auction and the best bid so far, until a timer at its end.
    """

    AUCTION = ReadModifyWriteStateSpec("auction", PickleCoder())
    BEST = ReadModifyWriteStateSpec("best", PickleCoder())
    CLOSES = TimerSpec("closes", TimeDomain.WATERMARK)

    def process(
        self,
        element: tuple[int, Auction | Bid],
        auction: Any = beam.DoFn.StateParam(AUCTION),
        best: Any = beam.DoFn.StateParam(BEST),
        closes: Any = beam.DoFn.TimerParam(CLOSES),
    ) -> None:
        event = element[1]
        if isinstance(event, Auction):
            auction.write(event)
            closes.set(Timestamp(micros=event.expires * 1_000))
            return
        sale = auction.read()
        if sale is not None and event.price >= sale.reserve and event.date_time < sale.expires:
            known = best.read()
            if known is None or rank(known) < rank(event):
                best.write(event)

    @on_timer(CLOSES)
    def close(
        self, auction: Any = beam.DoFn.StateParam(AUCTION), best: Any = beam.DoFn.StateParam(BEST)
    ) -> Iterator[Winner]:
        sale, bid = auction.read(), best.read()
        auction.clear()
        best.clear()
        if bid is not None:
            yield Winner(sale, bid)


def by_auction(event: Auction | Bid) -> tuple[int, Auction | Bid]:
    return (event.id if isinstance(event, Auction) else event.auction), event


def winning_bids(events: beam.PCollection[Event]) -> beam.PCollection[Winner]:
    return (
        events
        | "auctions and bids" >> beam.Filter(lambda event: not is_person(event))
        | "by auction" >> beam.Map(by_auction)
        | "winning" >> beam.ParDo(Winning())
    )


def with_end(element: tuple[int, float], at: Any = beam.DoFn.WindowParam) -> tuple[int, float, int]:
    return element[0], element[1], at.end.micros // 1_000 - 1


def query4(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Average price for a category: (category, mean winning price, window end) in sliding windows."""
    # An auction that closes on a boundary belongs before it.
    windows = window.SlidingWindows(config.window_ms / 1_000, config.period_ms / 1_000, offset=0.001)
    return (
        winning_bids(events)
        | "by category" >> beam.Map(lambda winner: (winner.auction.category, winner.bid.price))
        | "sliding" >> beam.WindowInto(windows)
        | "mean" >> beam.combiners.Mean.PerKey()
        | "with end" >> beam.Map(with_end)
    )


def query6(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Average selling price by seller over their last ten closed auctions, given out as auctions close."""
    return last_means(winning_bids(events))
