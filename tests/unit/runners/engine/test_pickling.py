"""Classes that are pickled by value."""

from __future__ import annotations

import dataclasses
import pickle
import uuid
from typing import ClassVar

import pytest

from sage.runners.engine import pickling


def test_a_dataclass_that_comes_back_knows_its_fields() -> None:
    @dataclasses.dataclass
    class Sale:
        kind: ClassVar[str] = "sale"
        shop: str
        items: list[int] = dataclasses.field(default_factory=list)

    came = pickle.loads(pickling.dumps(Sale))

    shop, items = dataclasses.fields(came)
    assert (shop.name, items.name) == ("shop", "items")
    assert shop.default is dataclasses.MISSING
    assert items.default_factory is list
    assert dataclasses.asdict(came("Oslo")) == {"shop": "Oslo", "items": []}


def test_classes_stay_apart_where_a_test_has_pinned_the_random_identifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sale:
        pass

    class Refund:
        pass

    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=1))
    sale, refund = pickling.dumps(Sale), pickling.dumps(Refund)
    assert [pickle.loads(sale), pickle.loads(refund)] == [Sale, Refund]
