"""Nexmark on Bytewax 0.21: the same functions in its operators, which take and give whole batches.

Its keys have to be strings. Its event clock is one for each key, so a window that gathers what other windows gave
has to wait for them. Outside of windows it has no timers of event time: Q3 forgets a person by the clock on the wall.
None of its windows depends on an element's value, so Q4 and Q6 (a bid belongs to the time in which its auction is
open) cannot be expressed.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from tests.benchmarks.nexmark.model import Auction, Bid, Person
from tests.benchmarks.stream.events import CONFIG, batches

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
WINDOW = timedelta(milliseconds=CONFIG.window_ms)
PERIOD = timedelta(milliseconds=CONFIG.period_ms)
MAX_WAIT = timedelta(milliseconds=CONFIG.max_wait_ms)
STATES = frozenset(("OR", "ID", "CA"))
CENTS_TO_EUROCENTS = 0.89
MILLISECOND = timedelta(milliseconds=1)
# Its clock moves on by the wall between two batches: without some patience, what comes at once is late.
WAIT = timedelta(seconds=10)
A_DAY = timedelta(days=1)


class _Part(StatelessSourcePartition[Any]):
    def __init__(self, count: int) -> None:
        self._batches = batches(count)

    def next_batch(self) -> Iterable[Any]:
        return next(self._batches)


class _Source(DynamicSource[Any]):
    def __init__(self, count: int) -> None:
        self.count = count

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Part:
        return _Part(self.count)


class _Sink(DynamicSink[Any], StatelessSinkPartition[Any]):
    def __init__(self, outputs: list[Any] | None) -> None:
        self.outputs = outputs

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[Any]:
        return self

    def write_batch(self, items: list[Any]) -> None:
        if self.outputs is not None:
            self.outputs.extend(items)


def at(event: Any) -> datetime:
    return EPOCH + timedelta(milliseconds=event.date_time)


def unchanged(event: Any) -> Any:
    return event


def is_bid(event: Any) -> bool:
    return isinstance(event, Bid)


def to_euros(bid: Bid) -> Bid:
    return bid._replace(price=bid.price * CENTS_TO_EUROCENTS)  # type: ignore[arg-type]


def query0(events: Stream[Any]) -> Stream[Any]:
    return op.map("pass through", events, unchanged)


def query1(events: Stream[Any]) -> Stream[Any]:
    return op.map("to euros", op.filter("just bids", events, is_bid), to_euros)


def query2(events: Stream[Any]) -> Stream[Any]:
    skip = CONFIG.auction_skip
    bids = op.filter("just bids", events, is_bid)
    some = op.filter("some auctions", bids, lambda bid: bid.auction % skip == 0)
    return op.map("project", some, lambda bid: (bid.auction, bid.price))


class _Join(op.StatefulBatchLogic[Any, Any, Any]):
    """A person, until a while after they came, and the auctions that wait for them."""

    def __init__(self, state: Any) -> None:
        self.person, self.waiting, self.forget = state or (None, [], None)

    def on_batch(self, values: list[Any]) -> tuple[Iterable[Any], bool]:
        for event in values:
            if isinstance(event, Person):
                self.person = event
                self.forget = datetime.now(timezone.utc) + MAX_WAIT
            else:
                self.waiting.append(event.id)
        person, found = self.person, self.waiting
        if person is None:
            return (), False
        self.waiting = []
        return [(person.name, person.city, person.state, auction) for auction in found], False

    def notify_at(self) -> datetime | None:
        return self.forget

    def on_notify(self) -> tuple[Iterable[Any], bool]:
        self.person = self.forget = None
        return (), not self.waiting

    def snapshot(self) -> Any:
        return self.person, list(self.waiting), self.forget


def is_local(event: Any) -> bool:
    if isinstance(event, Person):
        return event.state in STATES
    return isinstance(event, Auction) and event.category == 10


def person_or_seller(event: Any) -> str:
    return str(event.id if isinstance(event, Person) else event.seller)


def query3(events: Stream[Any]) -> Stream[Any]:
    keyed = op.key_on("by person", op.filter("local", events, is_local), person_or_seller)
    return op.map("values", op.stateful_batch("join", keyed, _Join), lambda pair: pair[1])


def hottest(best: list[Any], found: Any) -> list[Any]:
    if not best or found[1] > best[0][1]:
        return [found]
    return [*best, found] if found[1] == best[0][1] else best


def query5(events: Stream[Any]) -> Stream[Any]:
    bids = op.filter("just bids", events, is_bid)
    sliding = win.SlidingWindower(length=WINDOW, offset=PERIOD, align_to=EPOCH)
    counts = win.count_window("count", bids, win.EventClock(at, WAIT), sliding, lambda bid: str(bid.auction))
    # Window n begins n periods after the epoch; the last instant of a window is the time of what it gives.
    ends = op.map("to all", counts.down, lambda pair: ("all", (int(pair[0]), pair[1][1], pair[1][0] * PERIOD + WINDOW)))
    tops = win.fold_window(
        "hottest",
        ends,
        win.EventClock(lambda found: EPOCH + found[2], A_DAY),
        win.TumblingWindower(length=PERIOD, align_to=EPOCH),
        list,
        hottest,
        operator.add,
    )
    each = op.flat_map("each", tops.down, lambda pair: pair[1][1])
    return op.map("in ms", each, lambda found: (found[0], found[1], found[2] // MILLISECOND))


def highest(best: list[Bid], bid: Bid) -> list[Bid]:
    if not best or bid.price > best[0].price:
        return [bid]
    if bid.price == best[0].price:
        best.append(bid)
    return best


def query7(events: Stream[Any]) -> Stream[Any]:
    bids = op.key_on("to all", op.filter("just bids", events, is_bid), lambda _: "all")
    clock, windows = win.EventClock(at, WAIT), win.TumblingWindower(length=WINDOW, align_to=EPOCH)
    tops = win.fold_window("highest", bids, clock, windows, list, highest, operator.add)
    return op.flat_map("each", tops.down, lambda pair: pair[1][1])


def query8(events: Stream[Any]) -> Stream[Any]:
    persons = op.filter("persons", events, lambda event: isinstance(event, Person))
    auctions = op.filter("auctions", events, lambda event: isinstance(event, Auction))
    joined = win.join_window(
        "join",
        win.EventClock(at, WAIT),
        win.TumblingWindower(length=WINDOW, align_to=EPOCH),
        op.key_on("by id", persons, lambda person: str(person.id)),
        op.key_on("by seller", auctions, lambda auction: str(auction.seller)),
        insert_mode="product",
        emit_mode="final",
    )
    pairs = op.filter("both", op.map("pair", joined.down, lambda pair: pair[1][1]), lambda pair: None not in pair)
    return op.map("project", pairs, lambda pair: (pair[0].id, pair[0].name, pair[1].reserve))


QUERIES = {0: query0, 1: query1, 2: query2, 3: query3, 5: query5, 7: query7, 8: query8}


def run(number: int, count: int, collect: bool) -> list[Any]:
    """Q``number`` over ``count`` events; gives its outputs, if they are to be collected."""
    outputs: list[Any] = []
    flow = Dataflow(f"nexmark{number}")
    op.output("out", QUERIES[number](op.input("events", flow, _Source(count))), _Sink(outputs if collect else None))
    run_main(flow)
    return outputs
