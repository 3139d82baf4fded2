"""What flows through the job. Instants are integers: milliseconds since the epoch. Money is in cents."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

__all__ = ["Alert", "CustomerTotal", "Order", "Payment", "Settlement", "decode", "encode"]


class Order(NamedTuple):
    """Somebody has ordered for so much."""

    order_id: str
    customer: str
    amount: int
    at_ms: int


class Payment(NamedTuple):
    """Somebody has paid so much for an order."""

    order_id: str
    customer: str
    amount: int
    at_ms: int


class Settlement(NamedTuple):
    """What became of an order when its time to be paid was over.

    ``status`` is ``paid``, ``underpaid``, ``overpaid`` or ``unpaid``; or ``unmatched`` for a payment that came without
    an order, or too late for it.
    """

    order_id: str
    customer: str
    amount: int
    paid: int
    status: str
    closed_ms: int


class CustomerTotal(NamedTuple):
    """A customer's account up to an instant; ``unpaid`` is what is owed."""

    customer: str
    orders: int
    paid: int
    unpaid: int
    as_of_ms: int


class Alert(NamedTuple):
    """Something that a person should look at. ``kind`` is ``unpaid``, ``quiet`` or ``unmatched``."""

    customer: str
    kind: str
    detail: str
    at_ms: int


_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_KINDS = {"order_id": str, "customer": str, "amount": int, "at_ms": int}


def encode(row: Any) -> bytes:
    """A row as JSON."""
    return _ENCODE(row._asdict()).encode()


def decode(kind: type[Any], message: bytes) -> Any:
    """The `WorkerSpec` or `Payment` in a message.

    Raises:
        ValueError: it is none.
    """
    found = json.loads(message)
    if not isinstance(found, dict):
        raise ValueError(f"a JSON object is needed, not {type(found).__name__}")
    for name, wanted in _KINDS.items():
        if type(found.get(name)) is not wanted:
            raise ValueError(f"{name} must be of type {wanted.__name__}, not {found.get(name)!r}")
    return kind(*(found[name] for name in _KINDS))
