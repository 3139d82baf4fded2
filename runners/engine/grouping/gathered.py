"""Values gathered by key until somebody wants them all; what does not fit in memory waits on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sage.runners.engine.keyed.keys import key_coder, value_coder
from sage.runners.engine.spec import Collection
from sage.runners.engine.spilling.runs import Codec, Envelope, Run, merge_runs, write_run
from sage.runners.engine.spilling.sizes import size_of_pairs
from sage.runners.engine.spilling.spill import Memory

ENVELOPE_BYTES = 256


class Gathered:
    """State: lists of values by key identity, the keys behind the identities, and runs on disk.

    Whoever gathers appends to ``lists`` and ``keys`` itself and then calls `took`.

    Args:
        source: the keyed collection that the values come from.
        memory: what this worker's groupings share.
        envelope: what is about each value, if the values in the lists are not the collection's own.
    """

    held = 0

    def __init__(self, source: Collection, memory: Memory, envelope: Envelope | None = None) -> None:
        self.lists: dict[Any, list[Any]] = {}
        self.keys: dict[Any, Any] = {}
        self._memory = memory
        self._codec = Codec(key_coder(source.coder), value_coder(source.coder), envelope)
        self._runs: list[Run] = []
        memory.join(self)

    def took(self, pairs: Sequence[Any], fresh: int) -> None:
        """Key-value pairs were gathered, ``fresh`` of them under a key that was not there."""
        if self._memory.limited and pairs:
            self._memory.grow(self, size_of_pairs(pairs, fresh) + ENVELOPE_BYTES * len(pairs))

    def put_back(self, identity: Any, key: Any, values: list[Any]) -> None:
        """Keeps values that `drain` gave."""
        self.keys[identity] = key
        self.lists[identity] = values
        if self._memory.limited:
            self.took([(key, value) for value in values], 1)

    def shed(self) -> None:
        """Moves all to disk."""
        if self.lists:
            self._runs.append(write_run(self.lists, self.keys.__getitem__, self._codec, self._memory))
        self.keys.clear()
        self._memory.shrink(self, self.held)

    def drain(self) -> Iterator[tuple[Any, list[Any]]]:
        """Takes all out, key by key; what is gathered meanwhile stays."""
        if self._runs:
            self.shed()
            runs, self._runs = self._runs, []
            for key, values in merge_runs(runs, self._codec, self._memory.list_bytes):
                yield key, values if values.__class__ is list else list(values)
            return
        lists, self.lists = self.lists, {}
        keys, self.keys = self.keys, {}
        size, each = self.held, self.held // max(1, len(lists))
        self._memory.lend(self, size)
        for identity in list(lists):
            yield keys.pop(identity), lists.pop(identity)
            self._memory.repay(each)
            size -= each
        self._memory.repay(size)
