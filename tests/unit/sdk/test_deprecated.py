"""Old public names work, and say what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pytest

import sage
from sage import transactions
from sage.transforms.joins import TableJoin


@pytest.mark.parametrize(("old", "new"), [("Later", "Deferred"), ("BulkSink", "BatchSink")])
def test_a_class_is_found_by_its_old_name(old: str, new: str) -> None:
    for module in (sage, transactions):
        with pytest.warns(DeprecationWarning, match=f"{old} is deprecated: write .*{new}"):
            assert getattr(module, old) is getattr(module, new)


def test_what_was_never_there_is_not_found() -> None:
    for module in (sage, transactions):
        with pytest.raises(AttributeError, match="Sooner"):
            module.Sooner


def test_a_deferred_answers_by_its_old_methods() -> None:
    later = sage.Deferred(lambda: 7)
    with pytest.warns(DeprecationWarning, match=r"write Deferred\.result"):
        assert later.told() == 7
    with pytest.warns(DeprecationWarning, match=r"write Deferred\.resolve"):
        assert sage.Deferred.of(later) == 7


def test_a_source_with_old_methods_is_read_by_them() -> None:
    with pytest.warns(DeprecationWarning, match="is deprecated: write Old") as warned:

        class Old(sage.StreamSource[int]):
            most_at_a_time = 5

            def splits(self) -> Sequence[Any]:
                return ["a"]

            def appeared(self, split: Any) -> Any:
                return split.upper()

            def reads(self, split: Any) -> bool:
                return bool(split == "A")

    assert len(warned) == 3
    assert all(each.filename == __file__ for each in warned)
    source = Old()
    assert (source.max_poll_records, source.on_discovered("a"), source.accepts("a")) == (5, "A", False)


def test_a_sink_with_an_old_method_writes_by_it() -> None:
    with pytest.warns(DeprecationWarning, match=r"Old\.write_batch"):

        class Old(sage.BatchSink):
            def take(self, elements: list[Any]) -> None:
                assert elements == [1]
                taken.append(elements)

    taken: list[list[Any]] = []
    Old().process(1)
    assert taken == [[1]]


def test_a_table_join_takes_its_old_argument() -> None:
    with pytest.warns(DeprecationWarning, match="table_as"):
        assert isinstance(TableJoin(held="side"), beam.PTransform)
    with pytest.raises(TypeError, match="keeps"):
        TableJoin(keeps="side")
