"""The Nexmark generator: event number n is a pure function of n, so a source can start anywhere and be split.

Out of 50 events 1 is a person, 3 are auctions and 46 are bids. Half of the bids go to a hot auction, most come from hot
bidders, most auctions have a hot seller, as in Beam's generator. The shape is that of the Java one, the values are not.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.nexmark.model import Auction, Bid, Config, Event, Person

__all__ = ["PROPORTION", "event", "event_time", "events", "longest_auction"]

PERSONS, AUCTIONS, BIDS = 1, 3, 46
PROPORTION = PERSONS + AUCTIONS + BIDS
FIRST_PERSON = FIRST_AUCTION = 1_000
FIRST_CATEGORY, CATEGORIES = 10, 5
HOT_AUCTIONS, HOT_BIDDERS, HOT_SELLERS = 100, 100, 100
ACTIVE_PEOPLE = 1_000

_STATES = ["AZ", "CA", "ID", "OR", "WA", "WY"]
_CITIES = ["Phoenix", "Los Angeles", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne", "Reno"]
_FIRST = ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"]
_LAST = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_FILLER = "".join(_LETTERS[(i * i * 7 + i * 3 + i // 26) % 26] for i in range(2_048))
_MASK = (1 << 64) - 1


def _mix(number: int) -> int:
    """Splitmix64: 64 well-mixed bits of a number, the same on every machine."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


def _filler(bits: int, length: int) -> str:
    start = bits % 1_024
    return _FILLER[start : start + length]


def _price(bits: int) -> int:
    """Cents, spread evenly over six orders of magnitude."""
    return round(10 ** ((bits % 1_000_003) / 1_000_003 * 6) * 100)


def event_time(number: int, config: Config) -> int:
    """The event time of event ``number`` (ms)."""
    return config.base_ms + number * 1_000 // config.events_per_second


def _person(number: int, epoch: int, at: int) -> Person:
    bits = _mix(number)
    return Person(
        FIRST_PERSON + epoch,
        f"{_FIRST[bits % 11]} {_LAST[(bits >> 10) % 9]}",
        f"{_filler(bits >> 7, 7)}@{_filler(bits >> 17, 5)}.com",
        f"{bits >> 48 & 0xFFFF:04x} {bits >> 32 & 0xFFFF:04x} {bits >> 16 & 0xFFFF:04x} {bits & 0xFFFF:04x}",
        _CITIES[(bits >> 20) % 10],
        _STATES[(bits >> 30) % 6],
        at,
        _filler(bits >> 40, 120),
    )


def longest_auction(config: Config) -> int:
    """How long an auction is open at most (ms): twice the time in which ``in_flight`` auctions open."""
    return max(2 * config.in_flight * PROPORTION * 1_000 // (AUCTIONS * config.events_per_second), 1)


def _some_person(bits: int, epoch: int) -> int:
    """The id of somebody who has come lately."""
    active = min(epoch + 1, ACTIVE_PEOPLE)
    return FIRST_PERSON + epoch - bits % active


def _auction(number: int, epoch: int, offset: int, at: int, config: Config) -> Auction:
    bits = _mix(number)
    more = _mix(bits)
    hot_seller = FIRST_PERSON + epoch // HOT_SELLERS * HOT_SELLERS
    initial = _price(more)
    return Auction(
        FIRST_AUCTION + epoch * AUCTIONS + offset - PERSONS,
        _filler(bits >> 12, 20),
        _filler(bits >> 22, 100),
        initial,
        initial + _price(more >> 20),
        at,
        at + 1 + (more >> 40) % longest_auction(config),
        hot_seller if bits % 4 else _some_person(bits >> 8, epoch),
        FIRST_CATEGORY + (bits >> 34) % CATEGORIES,
        _filler(bits >> 44, 250),
    )


def _bid(number: int, epoch: int, offset: int, at: int, config: Config) -> Bid:
    bits = _mix(number)
    newest = epoch * AUCTIONS + min(offset - PERSONS, AUCTIONS) - 1
    if bits & 1:
        auction = max(newest // HOT_AUCTIONS * HOT_AUCTIONS, 0)
    else:
        auction = newest - (bits >> 1) % min(newest + 1, config.in_flight)
    if bits >> 12 & 3:
        bidder = FIRST_PERSON + min(epoch // HOT_BIDDERS * HOT_BIDDERS + 1, epoch)
    else:
        bidder = _some_person(bits >> 14, epoch)
    return Bid(FIRST_AUCTION + auction, bidder, _price(bits >> 30), at, _filler(bits >> 50, 50))


def event(number: int, config: Config) -> Event:
    """Event ``number``, counted from 0."""
    epoch, offset = divmod(number, PROPORTION)
    at = event_time(number, config)
    if offset < PERSONS:
        return _person(number, epoch, at)
    if offset < PERSONS + AUCTIONS:
        return _auction(number, epoch, offset, at, config)
    return _bid(number, epoch, offset, at, config)


def events(count: int, config: Config, first: int = 0) -> Iterator[Event]:
    """Events ``first`` up to ``first + count - 1``."""
    for number in range(first, first + count):
        yield event(number, config)
