"""The generated stream: order number n, and what was paid for it, are functions of the seed and of n alone.

So a reader can start at any position, and a job that is killed and resumed reads what it would have read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sage.jobs.orders.model import Order, Payment
from sage.sources import Batch, SplitReader, StreamSource

__all__ = ["SPACING_MS", "Generated", "Shop", "order", "payments"]

START_MS = 1_767_225_600_000
SPACING_MS = 50
SPLITS = 4
MINUTE_MS = 60_000
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Shop:
    """A shop that could be.

    Attributes:
        seed: which of the shops.
        customers: how many there are (count).
        events: how many orders it has in all (count); None for no end.
        rate: how many orders are made in a second of the clock on the wall (count); None for as many as can be read.
    """

    seed: int = 0
    customers: int = 1_000
    events: int | None = None
    rate: float | None = None


def _mix(number: int) -> int:
    """Splitmix64: 64 well-mixed bits of a number, the same on every machine."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


def order(shop: Shop, number: int) -> Order:
    """Order ``number``, counted from 0."""
    bits = _mix(_mix(shop.seed) ^ number)
    # The square favours low numbers: some customers order often, many seldom.
    who = (bits % shop.customers) * (bits >> 20) % shop.customers
    return Order(f"o{number}", f"c{who}", 100 + (bits >> 40) % 50_000, START_MS + number * SPACING_MS)


def payments(shop: Shop, number: int) -> list[Payment]:
    """What was paid for order ``number``: mostly once and in full, within minutes."""
    bits = _mix(_mix(shop.seed ^ 0x5EED) ^ number)
    made, fate = order(shop, number), bits % 100
    delay = 1_000 + (bits >> 8) % (10 * MINUTE_MS)
    if fate < 5:
        return []
    if fate < 6:
        delay += 30 * MINUTE_MS  # too late
    amount = made.amount // 2 if fate in (6, 7) else made.amount
    first = Payment(made.order_id, made.customer, amount, made.at_ms + delay)
    return [first, first._replace(at_ms=first.at_ms + 1)] if fate == 8 else [first]


class Generated(StreamSource[Any]):
    """The orders, or the payments, of a shop. Every fourth order belongs to one split; a position counts its orders.

    The shop has a clock of its own: without a rate, its time passes faster than ours and may be ahead of it.
    """

    max_watermark_lead_ms = None

    def __init__(self, kind: type[Any], shop: Shop) -> None:
        self.kind = kind
        self.shop = shop

    def splits(self) -> Sequence[Any]:
        return range(SPLITS)

    def reader(self, split: Any, position: Any) -> SplitReader[Any]:
        return _Reader(self.kind, self.shop, split, position or 0)


class _Reader(SplitReader[Any]):
    def __init__(self, kind: type[Any], shop: Shop, split: int, position: int) -> None:
        self._kind = kind
        self._shop = shop
        self._split = split
        self._at = position
        self._end = None if shop.events is None else (shop.events - split + SPLITS - 1) // SPLITS
        self._began = position
        self._since = time.monotonic()

    def _there(self) -> int | None:
        """The position of the first order that is not made yet; None if there is no such."""
        if self._shop.rate is None:
            return self._end
        made = self._began + int((time.monotonic() - self._since) * self._shop.rate / SPLITS)
        return made if self._end is None else min(made, self._end)

    def poll(self, limit: int) -> Batch | None:
        there = self._there()
        end = self._at + limit if there is None else min(self._at + limit, there)
        if end <= self._at:
            return None
        numbers = range(self._at * SPLITS + self._split, end * SPLITS + self._split, SPLITS)
        self._at = end
        values: list[Any]
        if self._kind is Order:
            values = [order(self._shop, number) for number in numbers]
        else:
            values = [payment for number in numbers for payment in payments(self._shop, number)]
        return Batch(values, [value.at_ms * 1_000 for value in values])

    def position(self) -> int:
        return self._at

    def watermark(self) -> int:
        # Nothing is paid before it is ordered.
        return (START_MS + (self._at * SPLITS + self._split) * SPACING_MS) * 1_000

    @property
    def finished(self) -> bool:
        return self._end is not None and self._at >= self._end

    def lag(self) -> int | None:
        there = self._there()
        return None if there is None else there - self._at
