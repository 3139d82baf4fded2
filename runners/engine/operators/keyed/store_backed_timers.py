"""Timers that outgrow memory: those that fire soon are in memory, the others in a store.

A stored timer has up to three rows, each beginning with its key group as all rows do::

    group (2) | "n" | domain | window | key | family | 0 | tag          -> when it fires
    group (2) | "t" | domain | when it fires (8) | the same from window on  -> the timer
    group (2) | "h" | domain | its hold (8) | the same from window on       -> nothing

The last is there for timers of processing time, if they hold the watermark.
"""

from __future__ import annotations

import heapq
import pickle
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from sage.runners.engine.core.blocks import MAX_MICROS
from sage.runners.engine.core.key_groups import KEY_GROUPS
from sage.runners.engine.core.keyed_store import KeyedStore, number_of, ordered, window_part
from sage.runners.engine.operators.keyed.chunks import StateSchema
from sage.runners.engine.operators.keyed.timers import Timer, TimerQueue

TIMER_BYTES = 1000  # about what a timer takes in memory
_NEVER = 1 << 63


class StoreBackedTimers(TimerQueue):
    """The timers of one time domain.

    State: the timers that fire before ``horizon`` (microseconds) in memory, as `TimerQueue` has them; those that fire
    then or later in the store. Which timers of those in memory changed is what `changes` tells.

    Args:
        declared: what the step declares.
        store: where timers go.
        tracked: whether snapshots will be taken.
        by_clock: whether they are of processing time; those of event time hold until they fire.
    """

    def __init__(self, declared: StateSchema, store: KeyedStore, tracked: bool, *, by_clock: bool) -> None:
        super().__init__(tracked, by_clock=by_clock)
        self._declared = declared
        self._store = store
        self._by_clock = by_clock
        self._domain = b"c" if by_clock else b"e"
        self._most = max(1, store.cells_bytes // (4 * TIMER_BYTES))
        self._horizon = _NEVER
        self._least_hold: int | None = MAX_MICROS

    def __len__(self) -> int:
        self._fill()
        return super().__len__()

    @property
    def _spilled(self) -> bool:
        return self._horizon != _NEVER

    def found(self) -> None:
        """The store came with rows of its own."""
        self._horizon = -_NEVER
        self._least_hold = None

    def set(self, identity: Any, timer: Timer) -> None:
        if self._spilled:
            self._take_out(identity)
        if timer.fire >= self._horizon:
            super().clear(identity)
            self._put_in(identity, timer)
            return
        super().set(identity, timer)
        if len(self._current) > 2 * self._most:
            self._spill()

    def set_all(self, timers: Mapping[Any, Timer]) -> None:
        for identity, timer in timers.items():
            self.set(identity, timer)

    def clear(self, identity: Any) -> None:
        if identity in self._current:
            super().clear(identity)
        elif self._spilled:
            self._take_out(identity)

    def drop_all(self) -> None:
        super().drop_all()
        if self._spilled:
            for group in range(KEY_GROUPS):
                for kind in (b"n", b"t", b"h"):
                    self._store.delete_range(*self._range(group, kind))
            self._horizon, self._least_hold = _NEVER, MAX_MICROS

    def next_fire(self) -> int | None:
        self._fill()
        return super().next_fire()

    def hold(self) -> int:
        self._fill()
        pending = super().hold()
        if not self._spilled:
            return pending
        if self._least_hold is None:
            first = (next(iter(self._store.scan(*self._range(group, b"h"))), None) for group in range(KEY_GROUPS))
            self._least_hold = min((number_of(row[0][4:12]) for row in first if row), default=MAX_MICROS)
        # Those of event time have no such rows: they hold until they fire, later than what is in memory.
        return min(pending, self._least_hold)

    # Between memory and store.

    def _spill(self) -> None:
        """The later half goes to the store."""
        names = sorted(self._current, key=lambda name: self._current[name].fire)
        self._horizon = self._current[names[self._most]].fire
        for name in names[self._most :]:
            timer = self._current[name]
            super().clear(name)
            self._put_in(name, timer)
        # The heaps are as long as they were: what was cleared in them is at their far end.
        self._rebuild()

    def _fill(self) -> None:
        """Sees that the earliest timer is in memory."""
        if self._current or not self._spilled:
            return
        scans = [self._store.scan(*self._range(group, b"t")) for group in range(KEY_GROUPS)]
        rows: list[tuple[bytes, bytes]] = []
        self._horizon = _NEVER
        for row, data in heapq.merge(*scans, key=lambda row: row[0][4:12]):
            if len(rows) == self._most:
                self._horizon = number_of(row[4:12])
                break
            rows.append((row, data))
        for row, data in rows:
            fire = number_of(row[4:12])
            timer = self._read(fire, data)
            self._remove(row[:2], row[12:], fire, timer.hold)
            identity = timer.spec.name, self._declared.ids.of(timer.key), timer.window, timer.tag
            super().set(identity, timer)

    def _range(self, group: int, kind: bytes) -> tuple[bytes, bytes]:
        prefix = group.to_bytes(2, "big") + kind + self._domain
        return prefix + b"\0", prefix + b"\xff" * 9

    def _name(self, identity: Any) -> tuple[bytes, bytes]:
        """The key group of a timer and the rest of its name, as rows have them."""
        family, key_identity, window, tag = identity
        key = self._declared.ids.stored(self._declared.ids.key_of(key_identity))
        part = window_part(int(window.max_timestamp().micros), self._declared.window.encode(window))
        name = part + len(key).to_bytes(4, "big") + key + family.encode() + b"\0" + tag.encode()
        return (zlib.crc32(key) % KEY_GROUPS).to_bytes(2, "big"), name

    def _put_in(self, identity: Any, timer: Timer) -> None:
        group, name = self._name(identity)
        key, window = self._declared.keys.pack_one(timer.key), self._declared.window.encode(timer.window)
        data = pickle.dumps((timer.spec.name, key, window, timer.tag, timer.hold, timer.pane), 5)
        fire = ordered(timer.fire)
        self._store.put(group + b"n" + self._domain + name, fire + ordered(timer.hold))
        self._store.put(group + b"t" + self._domain + fire + name, data)
        if self._by_clock and timer.hold != MAX_MICROS:
            self._store.put(group + b"h" + self._domain + ordered(timer.hold) + name, b"")
            if self._least_hold is not None:
                self._least_hold = min(self._least_hold, timer.hold)

    def _take_out(self, identity: Any) -> None:
        """Removes a timer from the store, if it is there."""
        group, name = self._name(identity)
        times = self._store.get(group + b"n" + self._domain + name)
        if times is not None:
            self._remove(group, name, number_of(times[:8]), number_of(times[8:]))

    def _remove(self, group: bytes, name: bytes, fire: int, hold: int) -> None:
        self._store.delete(group + b"n" + self._domain + name)
        self._store.delete(group + b"t" + self._domain + ordered(fire) + name)
        if self._by_clock and hold != MAX_MICROS:
            self._store.delete(group + b"h" + self._domain + ordered(hold) + name)
            if self._least_hold == hold:
                self._least_hold = None

    def _read(self, fire: int, data: bytes) -> Timer:
        family, key, window, tag, hold, pane = pickle.loads(data)
        declared = self._declared
        return Timer(
            declared.timer(family), declared.keys.unpack_one(key), declared.window.decode(window), tag, fire, hold, pane
        )


def has_timers(store: KeyedStore, groups: Iterable[int]) -> bool:
    """Whether there are timers of any domain in a store."""
    for group in groups:
        prefix = group.to_bytes(2, "big")
        if next(iter(store.scan(prefix + b"t", prefix + b"u")), None) is not None:
            return True
    return False
