"""The three kinds of events of an auction site, and the settings that generator, queries and references share.

Instants are integers: milliseconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Auction", "Bid", "Config", "Event", "Person"]


class Person(NamedTuple):
    """Somebody who sells or bids."""

    id: int
    name: str
    email: str
    credit_card: str
    city: str
    state: str
    date_time: int
    extra: str


class Auction(NamedTuple):
    """An item for sale from ``date_time`` until ``expires``; bids under ``reserve`` do not win."""

    id: int
    item_name: str
    description: str
    initial_bid: int
    reserve: int
    date_time: int
    expires: int
    seller: int
    category: int
    extra: str


class Bid(NamedTuple):
    """An offer by person ``bidder`` for auction ``auction``; prices are in cents."""

    auction: int
    bidder: int
    price: int
    date_time: int
    extra: str


Event = Person | Auction | Bid


@dataclass(frozen=True)
class Config:
    """What Nexmark leaves open.

    Attributes:
        events_per_second: how close the events lie in event time.
        base_ms: the event time of the first event.
        window_ms: length of fixed and sliding windows and the gap of sessions.
        period_ms: step of sliding windows.
        auction_skip: Q2 keeps the auctions whose id it divides.
        in_flight: how many auctions are open at a time, about.
        max_wait_ms: how long Q3 remembers a person for auctions to come.
        max_log_events: Q10 and Q11 give out what they have once they hold this many.
        log_shards: files Q10 spreads a window over.
        log_dir: where Q10 writes its logs.
        processing_window_ms: Q12's window in processing time.
    """

    events_per_second: int = 1_000
    base_ms: int = 1_700_000_000_000
    window_ms: int = 10_000
    period_ms: int = 5_000
    auction_skip: int = 123
    in_flight: int = 100
    max_wait_ms: int = 600_000
    max_log_events: int = 100_000
    log_shards: int = 10
    log_dir: str = ""
    processing_window_ms: int = 10_000
