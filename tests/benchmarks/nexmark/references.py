"""What the queries mean, in plain Python over a list of events: slow, obvious, no Beam."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from typing import Any

from tests.benchmarks.nexmark.model import Auction, Bid, Config, Event, Person


def _bids(events: Iterable[Event]) -> list[Bid]:
    return [event for event in events if isinstance(event, Bid)]


def _auctions(events: Iterable[Event]) -> list[Auction]:
    return [event for event in events if isinstance(event, Auction)]


def _persons(events: Iterable[Event]) -> list[Person]:
    return [event for event in events if isinstance(event, Person)]


def _fixed(at: int, config: Config) -> int:
    """The start of the fixed window of an instant."""
    return at - at % config.window_ms


def _sliding(at: int, config: Config) -> Iterator[int]:
    """The ends of the sliding windows of an instant."""
    start = at - at % config.period_ms
    while start > at - config.window_ms:
        yield start + config.window_ms
        start -= config.period_ms


def query0(events: list[Event], config: Config) -> list[Any]:
    return list(events)


def query1(events: list[Event], config: Config) -> list[Any]:
    return [(bid.auction, bid.bidder, bid.price * 0.89, bid.date_time, bid.extra) for bid in _bids(events)]


def query2(events: list[Event], config: Config) -> list[Any]:
    return [(bid.auction, bid.price) for bid in _bids(events) if bid.auction % config.auction_skip == 0]


def query3(events: list[Event], config: Config) -> list[Any]:
    sellers = {person.id: person for person in _persons(events) if person.state in ("OR", "ID", "CA")}
    found = []
    for auction in _auctions(events):
        seller = sellers.get(auction.seller)
        if seller is not None and auction.category == 10:
            found.append((seller.name, seller.city, seller.state, auction.id))
    return found


def _winners(events: list[Event]) -> list[tuple[Auction, Bid]]:
    offers = collections.defaultdict(list)
    for bid in _bids(events):
        offers[bid.auction].append(bid)
    found = []
    for auction in _auctions(events):
        best = None
        for bid in offers[auction.id]:
            if bid.price < auction.reserve or bid.date_time >= auction.expires:
                continue
            if best is None or (bid.price, -bid.date_time, -bid.bidder) > (best.price, -best.date_time, -best.bidder):
                best = bid
        if best is not None:
            found.append((auction, best))
    return found


def query4(events: list[Event], config: Config) -> list[Any]:
    prices = collections.defaultdict(list)
    for auction, bid in _winners(events):
        # A window is over just before its end, so an auction that closes on a boundary belongs before it.
        for end in _sliding(auction.expires - 1, config):
            prices[auction.category, end].append(bid.price)
    return [(category, sum(found) / len(found), end) for (category, end), found in prices.items()]


def query5(events: list[Event], config: Config) -> list[Any]:
    counts: dict[int, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for bid in _bids(events):
        for end in _sliding(bid.date_time, config):
            counts[end][bid.auction] += 1
    found = []
    for end, by_auction in counts.items():
        most = max(by_auction.values())
        found += [(auction, count, end) for auction, count in by_auction.items() if count == most]
    return found


def query6(events: list[Event], config: Config) -> list[Any]:
    sales = collections.defaultdict(list)
    for auction, bid in _winners(events):
        sales[auction.seller].append((auction.expires, auction.id, bid.price))
    means = []
    for seller, sold in sales.items():
        last = sorted(sold)[-10:]
        means.append((seller, 0, sum(price for _, _, price in last) // len(last)))
    return means


def query7(events: list[Event], config: Config) -> list[Any]:
    windows = collections.defaultdict(list)
    for bid in _bids(events):
        windows[_fixed(bid.date_time, config)].append(bid)
    found = []
    for bids in windows.values():
        highest = max(bid.price for bid in bids)
        found += [bid for bid in bids if bid.price == highest]
    return found


def query8(events: list[Event], config: Config) -> list[Any]:
    people = {(person.id, _fixed(person.date_time, config)): person for person in _persons(events)}
    found = []
    for auction in _auctions(events):
        person = people.get((auction.seller, _fixed(auction.date_time, config)))
        if person is not None:
            found.append((person.id, person.name, auction.reserve))
    return found


def query9(events: list[Event], config: Config) -> list[Any]:
    return [(auction.id, bid.bidder, bid.price, bid.date_time) for auction, bid in _winners(events)]


def query10(events: list[Event], config: Config) -> list[Any]:
    counts: collections.Counter[int] = collections.Counter()
    for event in events:
        counts[_fixed(event.date_time, config) + config.window_ms] += 1
    return list(counts.items())


def query11(events: list[Event], config: Config) -> list[Any]:
    times = collections.defaultdict(list)
    for bid in _bids(events):
        times[bid.bidder].append(bid.date_time)
    found = []
    for bidder, instants in times.items():
        session: list[int] = []
        for at in sorted(instants):
            if session and at >= session[-1] + config.window_ms:
                found.append((bidder, session[0], session[-1] + config.window_ms, len(session)))
                session = []
            session.append(at)
        found.append((bidder, session[0], session[-1] + config.window_ms, len(session)))
    return found


def query12(events: list[Event], config: Config) -> list[Any]:
    return list(collections.Counter(bid.bidder for bid in _bids(events)).items())
