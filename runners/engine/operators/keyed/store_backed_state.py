"""Keyed state that outgrows memory: cells live in a store, and in memory while their keys are used.

Two generations of cells are in memory. A cell that is used moves to the young one; when that is full, all that was
touched is written to the store, the young generation becomes the old one, and what nobody used since is let go.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from sage.runners.engine.checkpoint.snapshot import RootSnapshot, RootState
from sage.runners.engine.core.blocks import MIN_MICROS
from sage.runners.engine.core.key_groups import KEY_GROUPS
from sage.runners.engine.core.keyed_store import KeyedStore, after, cell_prefix, ended_range, group_ranges, window_part
from sage.runners.engine.operators.keyed.chunks import Chunk, StateSchema, write_chunk
from sage.runners.engine.operators.keyed.maps import MapCell, ids_of
from sage.runners.engine.operators.keyed.state import Cells, Expired, KeyedState
from sage.runners.engine.operators.keyed.state_codecs import entry_codec
from sage.runners.engine.operators.keyed.store_backed_timers import StoreBackedTimers, has_timers
from sage.runners.engine.operators.keyed.timers import Timer
from sage.runners.engine.serde.values import ListCodec
from sage.statespecs import MapStateSpec

CELL_OVERHEAD = 600  # bytes of the objects about a small value
SWEPT_ROWS = 20_000  # looked at for what expired, at one time
SETTLES = 16  # snapshots between two looks for windows that are over
PURGED_ROWS = 50_000  # removed of them at one time
FEW_ROWS = 1000  # are removed one by one
_NONE = Cells()


class StoreBackedState(KeyedState):
    """Keyed state over a store.

    State kept: two generations of cells, and the timers that fire soon; which windows were used, and whether some of
    them are over. Everything else is in the store.

    Args:
        declared: what the step declares.
        store: where the cells live.
        lateness_micros: how long after its end a window is held.
        checkpoints: whether snapshots will be taken.
    """

    def __init__(self, declared: StateSchema, store: KeyedStore, lateness_micros: int, checkpoints: bool) -> None:
        super().__init__(declared, tracked=True)  # what was touched is to be written to the store in any case
        self.event_timers: StoreBackedTimers = StoreBackedTimers(declared, store, checkpoints, by_clock=False)
        self.clock_timers: StoreBackedTimers = StoreBackedTimers(declared, store, checkpoints, by_clock=True)
        self._store = store
        self._lateness = lateness_micros
        self._restored_cells: dict[Any, Cells] = {}
        self._restored_window_cells = _NONE
        self._part = b""
        self._name_parts = {name: name.encode() + b"\0" for name in declared.states}
        self._last: tuple[Any, Any] = (None, None)
        self._prefix = b""
        self._entries = {
            name: entry_codec(spec) for name, spec in declared.states.items() if isinstance(spec, MapStateSpec)
        }
        self._used: set[str] = set()
        self._used_bytes: set[Any] = set()
        self._over = False
        self._settled = 0
        self._watermark = MIN_MICROS
        self._swept = b""
        self.most_made = store.cells_bytes // (4 * CELL_OVERHEAD)

    def _row(self, name: str, key: Any, identity: Any, window: Any) -> bytes:
        """Where the cell of a state is; what a map's entries begin with."""
        if self._last[0] is not identity or self._last[1] is not window:
            data = self._ids.stored(key)
            self._prefix = cell_prefix(zlib.crc32(data) % KEY_GROUPS, self._part, data)
            self._last = identity, window
        return self._prefix + self._name_parts[name]

    def _enter(self, window: Any) -> Cells:
        self._used_bytes.add(window)
        self._restored_window_cells = self._restored_cells.get(window, _NONE)
        self._part = window_part(int(window.max_timestamp().micros), self.declared.window.encode(window))
        return super()._enter(window)

    def _missing(self, name: str, key: Any, identity: Any, window: Any) -> Any:
        cell = self._restored_window_cells.columns[name].pop(identity, None)
        if cell is None:
            cell = self._new_cell(name)
            self._bind(cell, self._row(name, key, identity, window), name)
        return cell

    def _bind(self, cell: Any, row: bytes, name: str) -> None:
        """Gives a cell its place in the store, and what is there."""
        cell.row = row
        if isinstance(cell, MapCell):
            cell.store = _StoredEntries(self._store, row, self._entries[name], self.declared.states[name])
            return
        data = self._store.get(row)
        if data is not None:
            cell.load(self.declared.codecs[name].unpack_one(data))

    def trim(self, expired: Expired) -> None:
        size, count = self._flush()
        self._settle(expired)
        self._restored_cells, self._cells = self._cells, {}
        self._leave()
        self.made = 0
        if count:
            # Content in memory takes some times its bytes; both generations count.
            each = CELL_OVERHEAD + 4 * size // count
            self.most_made = self._store.cells_bytes // (2 * each)

    def _flush(self) -> tuple[int, int]:
        """Writes all that was touched to the store; how many bytes in how many cells."""
        rows: list[tuple[bytes, bytes | None]] = []
        size, count = 0, 0
        for cells in self._cells.values():
            touched = cells.take_touched()
            count += len(touched)
            for cell in touched:
                cell.touched = False
                self._used.add(cell.name)
                if isinstance(cell, MapCell):
                    size += self._flush_map(cell, rows)
                    continue
                content = cell.dump()
                data = None if content is None else self.declared.codecs[cell.name].pack_one(content)
                size += len(data or b"")
                rows.append((cell.row, data))
        self._store.write(rows)
        return size, count

    def _flush_map(self, cell: MapCell, rows: list[tuple[bytes, bytes | None]]) -> int:
        """Adds what is to be written of a map to ``rows``; gives how much that is (bytes)."""
        cleared, kept, gone = cell.take_changes()
        shelf = cell.store
        assert isinstance(shelf, _StoredEntries), "cells are bound to the store when they are made"
        if cleared:
            there = [row for row, _ in islice(self._store.scan(cell.row, after(cell.row)), FEW_ROWS)]
            if len(there) == FEW_ROWS:
                self._store.delete_range(cell.row, after(cell.row))
            else:
                rows += [(row, None) for row in there]
        rows += [(shelf.row_of(key), None) for key in gone]
        size = 0
        for entry in kept:
            data = self._entries[cell.name].pack_one(entry)
            size += len(data)
            rows.append((shelf.row_of(entry[0]), data))
        return size

    def expire(self, watermark: int, lateness_micros: int) -> None:
        self._watermark = watermark
        super().expire(watermark, lateness_micros)
        for window in [w for w in self._used_bytes if w.max_timestamp().micros + lateness_micros < watermark]:
            self._used_bytes.discard(window)
            self._restored_cells.pop(window, None)
            self._leave()
            self._over = True

    def _settle(self, expired: Expired) -> None:
        """What is done in the background: the store lets go of windows that are over, and of what expired."""
        self._settled += 1
        if self._over and self._settled >= SETTLES:
            self._purge()
        if self._expiring:
            self._sweep_rows(expired)

    def _purge(self) -> None:
        """Removes rows of windows that are over; one by one, for every range that was removed slows down who reads."""
        left = PURGED_ROWS
        for group in range(KEY_GROUPS):
            rows = list(islice(self._store.scan(*ended_range(group, self._watermark - self._lateness)), left))
            self._store.write([(row, None) for row, _ in rows])
            left -= len(rows)
            if not left:
                return
        self._settled, self._over = 0, False

    def _sweep_rows(self, expired: Expired) -> None:
        """Looks at some rows of the store, beginning where it left off, and removes what is past its time to live."""
        ((_, end),) = group_ranges(range(KEY_GROUPS))
        rows = list(islice(self._store.scan(self._swept, end), SWEPT_ROWS))
        for row, data in rows:
            name = self._state_of(row) if row[2:3] == b"s" else ""
            if name in self._expiring:
                self._expire_row(name, row, data, expired(self.declared.states[name].ttl))
        self._swept = rows[-1][0] + b"\0" if len(rows) == SWEPT_ROWS else b""

    def _expire_row(self, name: str, row: bytes, data: bytes, expired: Callable[[int], bool]) -> None:
        if name in self._entries:
            _, (stamp, _) = self._entries[name].unpack_one(data)
            if expired(stamp):
                self._store.delete(row)
            return
        codec = self.declared.codecs[name]
        cell = self._new_cell(name)
        cell.load(codec.unpack_one(data))
        if cell.expire(expired):
            content = cell.dump()
            if content is None:
                self._store.delete(row)
            else:
                self._store.put(row, codec.pack_one(content))

    @staticmethod
    def _state_of(row: bytes) -> str:
        """The name of the state that a row is of."""
        at = 11
        at += 2 + int.from_bytes(row[at : at + 2], "big")
        at += 4 + int.from_bytes(row[at : at + 4], "big")
        return row[at : row.index(0, at)].decode()

    def snapshot(self, whole: bool, expired: Expired) -> RootSnapshot:
        """All timers, or those that changed; the cells are in files."""
        whole = whole or self._whole_next
        self._whole_next = False
        self._flush()
        self._settle(expired)
        timers = self.event_timers.changes(whole), self.clock_timers.changes(whole)
        chunk = write_chunk(self.declared, (), timers, self._used) if whole or any(map(any, timers)) else None
        return RootSnapshot(chunk, whole, files=self._store.checkpoint())

    def _restore_files(self, state: RootState) -> None:
        mine = state.mine
        groups = None if mine is None else [group for group in range(KEY_GROUPS) if mine(group)]
        self._store.restore(state.files, None if groups is None else group_ranges(groups))
        self._over = True
        if has_timers(self._store, range(KEY_GROUPS)):
            self.event_timers.found()
            self.clock_timers.found()

    def _apply(self, chunk: Chunk, mine: Callable[[int], bool] | None, settings: dict[bool, dict[Any, Timer]]) -> None:
        self._used |= {*chunk.names}
        super()._apply(chunk, mine, settings)

    def _put(self, name: str, window: Any, keys: list[Any], contents: list[Any]) -> None:
        for key, content in zip(keys, contents, strict=True):
            cell = self.get_state(self.declared.states[name], key, window)
            cell.clear()
            if content is not None:
                cell.load(content)
            if self.made > self.most_made:
                self.trim(_never)


def _never(ttl: Any) -> Callable[[int], bool]:
    return lambda instant: False


class _StoredEntries:
    """The entries of one map in a store: a row each, whose data is key and value."""

    __slots__ = ("_codec", "_row", "_store", "_stored")

    def __init__(self, store: KeyedStore, row: bytes, codec: ListCodec, spec: MapStateSpec) -> None:
        self._store = store
        self._row = row
        self._codec = codec
        self._stored = ids_of(spec).stored

    def row_of(self, key: Any) -> bytes:
        """The row of an entry."""
        return self._row + self._stored(key)

    def get(self, key: Any) -> tuple[Any, Any] | None:
        data = self._store.get(self.row_of(key))
        if data is None:
            return None
        entry: tuple[Any, Any] = self._codec.unpack_one(data)
        return entry

    def scan(self) -> Iterator[tuple[Any, Any]]:
        for _, data in self._store.scan(self._row, after(self._row)):
            yield self._codec.unpack_one(data)
