"""RocksDB as a store of keyed state: what its checkpoints promise, and what is taken over from other stores."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from sage.errors import CheckpointError
from sage.runners.state.rocks import RocksBackend, RocksStore

pytest.importorskip("rocksdict")

ALL = b"\xff" * 9
Make = Callable[[], RocksStore]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    (tmp_path / "db").mkdir()
    backend = RocksBackend(str(tmp_path / "db"))
    yield lambda: backend.store("step")
    backend.close()


def copied(files: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The files as a storage would give them back."""
    folder.mkdir()
    return {name: shutil.copy(path, folder / name) for name, path in files.items()}


def rows(store: RocksStore) -> dict[bytes, bytes]:
    return dict(store.scan(b"", ALL))


def data_files(files: Mapping[str, str]) -> set[str]:
    return {name for name in files if name.endswith(".sst")}


def test_rows_are_in_order_and_go_one_by_one_or_by_range(make: Make) -> None:
    store = make()
    for row in (b"b", b"a", b"d", b"c"):
        store.put(row, row * 2)
    assert list(store.scan(b"b", b"d")) == [(b"b", b"bb"), (b"c", b"cc")]
    store.delete(b"b")
    store.delete(b"never")
    store.delete_range(b"c", b"d")
    assert rows(store) == {b"a": b"aa", b"d": b"dd"}
    assert (store.get(b"a"), store.get(b"b")) == (b"aa", None)


def test_many_rows_are_written_and_removed_at_once_the_later_of_two_with_one_place_stays(make: Make) -> None:
    store = make()
    for row in (b"a", b"b", b"c"):
        store.put(row, b"old")
    store.write([(b"d", b"1"), (b"a", None), (b"c", b"1"), (b"b", None), (b"b", b"2"), (b"d", None), (b"never", None)])
    assert rows(store) == {b"b": b"2", b"c": b"1"}
    store.write([])
    assert rows(store) == {b"b": b"2", b"c": b"1"}


def test_a_checkpoint_adds_files_for_what_is_new_and_leaves_the_others(make: Make) -> None:
    store = make()
    store.put(b"a", b"1")
    first = store.checkpoint()
    contents = {name: Path(path).read_bytes() for name, path in first.items()}
    store.put(b"b", b"2")
    second = store.checkpoint()
    shared = first.keys() & second.keys()
    assert shared == data_files(first)
    assert len(data_files(second)) == 2
    assert all(Path(second[name]).read_bytes() == contents[name] for name in shared)
    assert not any(map(Path.exists, map(Path, first.values())))  # the one before is gone with the next


def test_stores_give_their_files_names_of_their_own(make: Make) -> None:
    one, two = make(), make()
    for store in (one, two):
        store.put(b"a", b"1")
    assert not one.checkpoint().keys() & two.checkpoint().keys()


def test_what_is_restored_keeps_its_name_and_what_is_new_gets_another(make: Make, tmp_path: Path) -> None:
    old = make()
    old.put(b"a", b"1")
    files = old.checkpoint()
    copies = copied(files, tmp_path / "copy")
    # The old job goes on, and a checkpoint that is never durable takes the next number for a file.
    old.put(b"b", b"lost")
    lost = old.checkpoint()
    store = make()
    store.restore([copies], None)
    assert rows(store) == {b"a": b"1"}
    store.put(b"b", b"2")
    again = store.checkpoint()
    assert data_files(files) < data_files(again)
    assert not (data_files(lost) - data_files(files)) & data_files(again)


def test_rows_of_several_stores_are_taken_by_range(make: Make, tmp_path: Path) -> None:
    old = []
    for number, letters in enumerate((b"abcdef", b"ghijkl")):
        store = make()
        for letter in letters:
            store.put(bytes((letter,)), b"%d" % number)
        old.append(store.checkpoint())
    for number, (begin, end) in enumerate(((b"a", b"d"), (b"d", b"j"), (b"j", b"z"))):
        files = [copied(each, tmp_path / f"{number}-{index}") for index, each in enumerate(old)]
        store = make()
        store.restore(files, [(begin, end)])
        assert b"".join(rows(store)) == bytes(letter for letter in b"abcdefghijkl" if begin[0] <= letter < end[0])
        assert store.get(b"a") == (b"0" if number == 0 else None)


def test_all_rows_of_several_stores_come_together(make: Make, tmp_path: Path) -> None:
    old = []
    for row in (b"a", b"b"):
        store = make()
        store.put(row, row)
        old.append(store.checkpoint())
    store = make()
    store.restore([{}, *(copied(files, tmp_path / str(index)) for index, files in enumerate(old))], None)
    assert rows(store) == {b"a": b"a", b"b": b"b"}


def test_a_torn_file_is_said_to_be_one(make: Make, tmp_path: Path) -> None:
    old = make()
    old.put(b"a", b"1")
    files = copied(old.checkpoint(), tmp_path / "copy")
    (current,) = (path for name, path in files.items() if name.endswith("CURRENT"))
    Path(current).write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be read back"):
        make().restore([files], None)
