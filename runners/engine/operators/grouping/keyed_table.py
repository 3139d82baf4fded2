"""Values gathered by key until somebody wants them; what does not fit in memory waits on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from sage.runners.engine.checkpoint.snapshot import RootSnapshot, RootState
from sage.runners.engine.core.keys import key_coder
from sage.runners.engine.core.sizes import size_of_pairs
from sage.runners.engine.core.spec import Collection
from sage.runners.engine.memory.manager import pieces
from sage.runners.engine.memory.runs import Run, merge_runs, write_run
from sage.runners.engine.operators.base.context import JobContext
from sage.runners.engine.operators.grouping.changes import Changes, Table, extended, fold
from sage.runners.engine.operators.grouping.rows import KeyedRows, pack_parts, unpack_parts
from sage.runners.engine.serde.values import Codec, Envelope

ENVELOPE_BYTES = 256
PIECE_ROWS, PIECE_BYTES = 4096, 4 << 20


class Item(NamedTuple):
    """What is gathered: a value, and something about it.

    Args:
        envelope: how the value is found in an item, and put there.
        about: the rest of an item as a plain value.
        item: an item of that and a value.
    """

    envelope: Envelope
    about: Callable[[Any], Any]
    item: Callable[[Any, Any], Any]


class SpillableTable:
    """State: lists of items by key identity, the keys behind the identities, and runs on disk.

    Whoever gathers appends to ``lists`` and ``keys`` itself and then calls `took`. Where the job takes checkpoints,
    what the last snapshot holds is beside ``lists``, and what was taken out since is noted. ``joined`` makes one of a
    key's two lists.

    Args:
        source: the keyed collection that the keys come from.
        values: the coder of the values.
        kind: what an item is.
        job: what this worker's groupings share.
    """

    used_bytes = 0

    def __init__(self, source: Collection, values: Any, kind: Item, job: JobContext) -> None:
        self.lists: Table = {}
        self.keys: dict[Any, Any] = {}
        self._memory = job.memory
        self._kind = kind
        self._codec = Codec(key_coder(source.coder), values, kind.envelope)
        self._rows = KeyedRows(source, values)
        self._runs: list[Run] = []
        self._notes = job.options.checkpoints
        self._base: Table = {}
        self._gone: dict[Any, Any] = {}
        self._changes = Changes(self._memory)
        self._anew = False
        self.joined: Callable[[list[Any], list[Any]], list[Any]] = extended
        self._memory.register(self)

    def added(self, pairs: Sequence[Any], fresh: int) -> None:
        """Key-value pairs were gathered, ``fresh`` of them under a key that was not there."""
        if self._memory.limited and pairs:
            self._memory.grow(self, size_of_pairs(pairs, fresh) + ENVELOPE_BYTES * len(pairs))

    def put_back(self, identity: Any, key: Any, items: list[Any]) -> None:
        """Keeps items that were taken out."""
        self.keys[identity] = key
        self.lists[identity] = items
        if self._memory.limited:
            self.added([(key, item) for item in items], 1)

    def spill(self) -> None:
        """Moves all to disk."""
        if self._notes and self.lists:
            self._changes.put(self._packed(self.lists))
        if table := fold(self._base, self.lists, self.joined):
            self._runs.append(write_run(table, self.keys.__getitem__, self._codec, self._memory))
        self._base, self.lists = {}, {}
        self.keys.clear()
        self._memory.shrink(self, self.used_bytes)

    @property
    def spilled(self) -> bool:
        """Whether some of it is on disk, so that no key can be taken out by itself."""
        return bool(self._runs)

    def take(self, identity: Any) -> tuple[Any, list[Any]]:
        """Takes one key out, with its items, while nothing is spilled."""
        each = self.used_bytes // len(self.keys)
        self._memory.shrink(self, each)
        key, contents = self.keys.pop(identity), self._base.pop(identity, None)
        fresh = self.lists.pop(identity, [])
        if contents is None:
            return key, fresh
        self._gone[identity] = key
        return key, contents + fresh

    def drain(self) -> Iterator[tuple[Any, list[Any]]]:
        """Takes all out, key by key; what is gathered meanwhile stays."""
        self._anew = True
        self._gone.clear()
        self._changes.take()
        if self._runs:
            self.spill()
            self._changes.take()
            runs, self._runs = self._runs, []
            for key, values in merge_runs(runs, self._codec, self._memory.list_bytes):
                yield key, values if values.__class__ is list else list(values)
            return
        lists, self._base, self.lists = fold(self._base, self.lists, self.joined), {}, {}
        keys, self.keys = self.keys, {}
        size, each = self.used_bytes, self.used_bytes // max(1, len(lists))
        self._memory.begin_release(self, size)
        for identity in list(lists):
            yield keys.pop(identity), lists.pop(identity)
            self._memory.end_release(each)
            size -= each
        self._memory.end_release(size)

    def items(self) -> Iterator[tuple[Any, list[Any]]]:
        """Each identity with items that are in memory; one may come twice."""
        yield from self._base.items()
        yield from self.lists.items()

    # Snapshots: the keys that were taken out, and rows, which go behind what was there before for their key.

    def snapshot(self, whole: bool) -> RootSnapshot:
        """All that is held, or what changed since the last call."""
        whole = whole or self._anew or not self._notes
        parts, gone = self._changes.take(), self._gone
        if whole:
            parts, gone = list(self._all_packed()), {}
        elif self.lists:
            parts.append(self._packed(self.lists))
        if self._notes:
            self._base, self.lists = fold(self._base, self.lists, self.joined), {}
        self._gone, self._anew = {}, False
        if not whole and not parts and not gone:
            return RootSnapshot(None, whole=False)
        return RootSnapshot(pack_parts(self._rows.pack_keys(gone), parts), whole)

    def _all_packed(self) -> Iterator[bytes]:
        groups = merge_runs(self._runs, self._codec, self._memory.list_bytes)
        for piece in pieces(groups, PIECE_ROWS, PIECE_BYTES):
            keys = {self._rows.ids.of(key): key for key, _ in piece}
            yield self._packed(dict(zip(keys, (values for _, values in piece), strict=True)), keys)
        for table in (self._base, self.lists):
            if table:
                yield self._packed(table)

    def _packed(self, table: Table, keys: dict[Any, Any] | None = None) -> bytes:
        value_of, about = self._kind.envelope.inner, self._kind.about
        groups = [list(map(value_of, items)) for items in table.values()]
        rows = self._rows.pack(list(table), (keys or self.keys).__getitem__, groups)
        return pack_parts(rows, [list(map(about, items)) for items in table.values()])

    def restore(self, state: RootState) -> None:
        """Takes back what snapshots held, into memory; `weigh` is to be called next."""
        item = self._kind.item
        for gone, parts in unpack_parts(chain.from_iterable(state.keyed)):
            for _, identity, _, _ in self._rows.unpack(gone, None):
                for table in (self.keys, self._base, self.lists):
                    table.pop(identity, None)
            table = self._base if self._notes else self.lists
            for rows, rests in unpack_parts(parts):
                for number, identity, key, values in self._rows.unpack(rows, state.mine):
                    self.keys.setdefault(identity, key)
                    table.setdefault(identity, []).extend(map(item, rests[number], values))

    def weigh(self) -> None:
        """Counts what was taken back, of which some may go to disk."""
        if self._memory.limited:
            pairs = [(self.keys[i], item) for layer in (self._base, self.lists) for i in layer for item in layer[i]]
            self.added(pairs, len(self.keys))
