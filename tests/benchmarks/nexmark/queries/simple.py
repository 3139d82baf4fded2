"""Q0-Q2: pass through, map, filter."""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from tests.benchmarks.nexmark.model import Auction, Bid, Config, Event, Person

CENTS_TO_EUROCENTS = 0.89


def is_bid(event: Event) -> bool:
    return isinstance(event, Bid)


def is_auction(event: Event) -> bool:
    return isinstance(event, Auction)


def is_person(event: Event) -> bool:
    return isinstance(event, Person)


def just_bids(events: beam.PCollection[Event]) -> beam.PCollection[Bid]:
    return events | "just bids" >> beam.Filter(is_bid)


def just_auctions(events: beam.PCollection[Event]) -> beam.PCollection[Auction]:
    return events | "just auctions" >> beam.Filter(is_auction)


def just_persons(events: beam.PCollection[Event]) -> beam.PCollection[Person]:
    return events | "just persons" >> beam.Filter(is_person)


def unchanged(event: Event) -> Event:
    return event


def to_euros(bid: Bid) -> Bid:
    return bid._replace(price=bid.price * CENTS_TO_EUROCENTS)  # type: ignore[arg-type]


def query0(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Pass through: what the machinery costs."""
    return events | "pass through" >> beam.Map(unchanged)


def query1(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Currency conversion: each bid with its price in euros."""
    return just_bids(events) | "to euros" >> beam.Map(to_euros)


def query2(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Selection: (auction, price) of the bids for some auctions."""
    skip = config.auction_skip
    return (
        just_bids(events)
        | "some auctions" >> beam.Filter(lambda bid: bid.auction % skip == 0)
        | "project" >> beam.Map(lambda bid: (bid.auction, bid.price))
    )
