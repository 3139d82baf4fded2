"""Nexmark on Pathway 0.33: tables that are kept up to date, so the answer is what a table holds in the end.

Its Python connector takes rows. It is given the columns that a query needs and no others, which is to its advantage.
Nothing is ever final in it unless it is told to forget; it is not, which costs memory and no time.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Any

import pathway as pw
from pathway.internals.parse_graph import G

from tests.benchmarks.nexmark.model import Auction, Bid, Event, Person
from tests.benchmarks.stream.events import CONFIG, made

WINDOW, PERIOD = CONFIG.window_ms, CONFIG.period_ms
STATES = ("OR", "ID", "CA")
CENTS_TO_EUROCENTS = 0.89

Rows = Callable[[list[Event]], Iterator[dict[str, Any]]]


class _Subject(pw.io.python.ConnectorSubject):  # type: ignore[misc]
    deletions_enabled = False

    def __init__(self, events: list[Event], rows: Rows) -> None:
        super().__init__()
        self.events, self.rows = events, rows

    def run(self) -> None:
        for row in self.rows(self.events):
            self.next(**row)


def table(events: list[Event], rows: Rows, **columns: Any) -> Any:
    schema = pw.schema_builder({name: pw.column_definition(dtype=kind) for name, kind in columns.items()})
    return pw.io.python.read(_Subject(events, rows), schema=schema, autocommit_duration_ms=100)


def whole(events: list[Event]) -> Iterator[dict[str, Any]]:
    for event in events:
        yield {"event": event}


def bids(events: list[Event]) -> Any:
    def rows(events: list[Event]) -> Iterator[dict[str, Any]]:
        for event in events:
            is_bid = isinstance(event, Bid)
            yield {
                "is_bid": is_bid,
                "auction": event.auction if is_bid else 0,
                "bidder": event.bidder if is_bid else 0,
                "price": event.price if is_bid else 0,
                "date_time": event.date_time,
                "extra": event.extra,
            }

    read = table(events, rows, is_bid=bool, auction=int, bidder=int, price=int, date_time=int, extra=str)
    return read.filter(pw.this.is_bid)


def persons_and_auctions(events: list[Event]) -> tuple[Any, Any]:
    def rows(events: list[Event]) -> Iterator[dict[str, Any]]:
        for event in events:
            kind = 1 if isinstance(event, Person) else 2 if isinstance(event, Auction) else 0
            yield {
                "kind": kind,
                "number": event.id if kind else 0,
                "name": event.name if kind == 1 else "",
                "city": event.city if kind == 1 else "",
                "state": event.state if kind == 1 else "",
                "seller": event.seller if kind == 2 else 0,
                "category": event.category if kind == 2 else 0,
                "reserve": event.reserve if kind == 2 else 0,
                "date_time": event.date_time,
            }

    read = table(
        events, rows, kind=int, number=int, name=str, city=str, state=str, seller=int, category=int, reserve=int,
        date_time=int,
    )  # fmt: skip
    return read.filter(pw.this.kind == 1), read.filter(pw.this.kind == 2)


def query0(events: list[Event]) -> Any:
    return table(events, whole, event=tuple).select(pw.this.event)


def query1(events: list[Event]) -> Any:
    return bids(events).select(
        pw.this.auction, pw.this.bidder, price=pw.this.price * CENTS_TO_EUROCENTS, date_time=pw.this.date_time,
        extra=pw.this.extra,
    )  # fmt: skip


def query2(events: list[Event]) -> Any:
    return bids(events).filter(pw.this.auction % CONFIG.auction_skip == 0).select(pw.this.auction, pw.this.price)


def query3(events: list[Event]) -> Any:
    persons, auctions = persons_and_auctions(events)
    local = persons.filter((pw.this.state == "OR") | (pw.this.state == "ID") | (pw.this.state == "CA"))
    wanted = auctions.filter(pw.this.category == 10)
    return local.join(wanted, pw.left.number == pw.right.seller).select(
        pw.left.name, pw.left.city, pw.left.state, auction=pw.right.number
    )


def winners(events: list[Event]) -> Any:
    """Each auction with the bid that won it: the highest, then the earliest, in time and not under the reserve."""

    def rows(events: list[Event]) -> Iterator[dict[str, Any]]:
        for event in events:
            bid, auction = isinstance(event, Bid), isinstance(event, Auction)
            yield {
                "kind": 1 if bid else 2 if auction else 0,
                "auction": event.auction if bid else event.id,
                "bidder": event.bidder if bid else 0,
                "price": event.price if bid else 0,
                "date_time": event.date_time,
                "expires": event.expires if auction else 0,
                "reserve": event.reserve if auction else 0,
                "category": event.category if auction else 0,
                "seller": event.seller if auction else 0,
            }

    read = table(
        events, rows, kind=int, auction=int, bidder=int, price=int, date_time=int, expires=int, reserve=int,
        category=int, seller=int,
    )  # fmt: skip
    offers, sales = read.filter(pw.this.kind == 1), read.filter(pw.this.kind == 2)
    valid = (
        sales.join(offers, pw.left.auction == pw.right.auction)
        .filter((pw.right.price >= pw.left.reserve) & (pw.right.date_time < pw.left.expires))
        .select(pw.left.auction, pw.left.category, pw.left.seller, pw.left.expires, pw.right.price)
    )
    return valid.groupby(pw.this.auction, pw.this.category, pw.this.seller, pw.this.expires).reduce(
        pw.this.auction, pw.this.category, pw.this.seller, pw.this.expires, price=pw.reducers.max(pw.this.price)
    )


def query4(events: list[Event]) -> Any:
    sold = winners(events).with_columns(at=pw.this.expires - 1)
    sliding = sold.windowby(
        pw.this.at, window=pw.temporal.sliding(duration=WINDOW, hop=PERIOD, origin=0), instance=pw.this.category
    )
    means = sliding.reduce(
        category=pw.this._pw_instance, mean=pw.reducers.avg(pw.this.price), end=pw.this._pw_window_end
    )
    return means.select(pw.this.category, pw.this.mean, pw.this.end)


def query5(events: list[Event]) -> Any:
    sliding = bids(events).windowby(
        pw.this.date_time, window=pw.temporal.sliding(duration=WINDOW, hop=PERIOD, origin=0), instance=pw.this.auction
    )
    counts = sliding.reduce(auction=pw.this._pw_instance, count=pw.reducers.count(), end=pw.this._pw_window_end)
    most = counts.groupby(pw.this.end).reduce(pw.this.end, most=pw.reducers.max(pw.this.count))
    return counts.join(most, pw.left.end == pw.right.end, pw.left.count == pw.right.most).select(
        pw.left.auction, pw.left.count, pw.left.end
    )


def query6(events: list[Event]) -> Any:
    @pw.udf(deterministic=True)  # type: ignore[misc]
    def mean_of_last(sales: tuple[tuple[int, int, int], ...]) -> int:
        last = sales[-10:]
        return sum(price for _, _, price in last) // len(last)

    sold = winners(events).with_columns(sale=pw.make_tuple(pw.this.expires, pw.this.auction, pw.this.price))
    sellers = sold.groupby(pw.this.seller).reduce(pw.this.seller, sales=pw.reducers.sorted_tuple(pw.this.sale))
    return sellers.select(pw.this.seller, pane=0, mean=mean_of_last(pw.this.sales))


def query7(events: list[Event]) -> Any:
    offers = bids(events).with_columns(start=pw.this.date_time // WINDOW)
    tops = offers.groupby(pw.this.start).reduce(pw.this.start, highest=pw.reducers.max(pw.this.price))
    return offers.join(tops, pw.left.start == pw.right.start, pw.left.price == pw.right.highest).select(
        pw.left.auction, pw.left.bidder, pw.left.price, pw.left.date_time, pw.left.extra
    )


def query8(events: list[Event]) -> Any:
    persons, auctions = persons_and_auctions(events)
    tumbling = pw.temporal.tumbling(duration=WINDOW, origin=0)
    joined = persons.window_join(
        auctions, persons.date_time, auctions.date_time, tumbling, persons.number == auctions.seller
    )
    return joined.select(persons.number, persons.name, auctions.reserve)


QUERIES = {
    0: query0, 1: query1, 2: query2, 3: query3, 4: query4, 5: query5, 6: query6, 7: query7, 8: query8,
}  # fmt: skip


def run(number: int, count: int, collect: bool) -> list[Any]:
    """Q``number`` over ``count`` events; gives what the table of its results holds in the end."""
    G.clear()
    if not collect:
        pw.io.null.write(QUERIES[number](made(count)))
        pw.run(monitoring_level=pw.MonitoringLevel.NONE)
        return []
    found: collections.Counter[Any] = collections.Counter()

    def change(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        found[tuple(row.values())] += 1 if is_addition else -1

    pw.io.subscribe(QUERIES[number](made(count)), on_change=change)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    outputs = [row for row, times in found.items() for _ in range(times)]
    return [row[0] for row in outputs] if number == 0 else outputs
