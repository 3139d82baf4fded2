"""What one worker stores of a checkpoint, as bytes; and how the parts of all are dealt out to workers that go on."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sage.runners.engine.checkpoint.snapshot import RootSnapshot, RootState, StageSnapshot, StageState
from sage.runners.engine.core.blocks import MIN_MICROS
from sage.runners.engine.core.key_groups import KEY_GROUPS, worker_of
from sage.runners.engine.serde import pickling

Part = Mapping[str, StageSnapshot]
"""What one worker stores, by stage."""


def encode_part(part: Part) -> bytes:
    """A part as bytes; the paths of its files, which mean something at its worker only, are left out."""
    bare = {stage: replace(snapshot, root=replace(snapshot.root, files={})) for stage, snapshot in part.items()}
    try:
        return pickle.dumps(bare, 5)
    except Exception:
        return pickling.dumps(bare)  # sinks' handles may be of a class that came with a function


def decode_part(data: bytes) -> Part:
    """A part from its bytes."""
    return dict(pickle.loads(data))


@dataclass(frozen=True)
class StateAssignment:
    """Who goes on with what when ``before`` workers become ``now`` (counts).

    With as many workers as before each goes on with its own. Else keys go by their group, items that are spread one to
    each worker in turn, and what sinks have prepared in the same way, by subtask.
    """

    worker: int
    now: int
    before: int

    @property
    def same(self) -> bool:
        """Whether each worker goes on with its own."""
        return self.now == self.before

    @property
    def keyed_from(self) -> list[int]:
        """The workers before that had keys which are this worker's now."""
        if self.same:
            return [self.worker]
        groups = [group for group in range(KEY_GROUPS) if worker_of(group, self.now) == self.worker]
        return sorted({worker_of(group, self.before) for group in groups})

    @property
    def mine(self) -> Callable[[int], bool] | None:
        """Whether a key group is this worker's; None where all are that it is given."""
        return None if self.same else lambda group: worker_of(group, self.now) == self.worker

    @property
    def earlier(self) -> tuple[int, ...]:
        """The subtasks before that this worker answers for."""
        return tuple(range(self.worker, self.before, self.now))

    @property
    def last_from(self) -> list[int]:
        """The workers before whose last part is needed."""
        return [self.worker] if self.same else list(range(self.before))

    def spread(self, items: Mapping[int, Sequence[Any]]) -> list[Any]:
        """This worker's share of the items that each worker had."""
        every = [item for worker in sorted(items) for item in items[worker]]
        return every if self.same else every[self.worker :: self.now]


def states_of(
    deal: StateAssignment,
    chains: Mapping[int, Sequence[Part]],
    files: Mapping[int, Mapping[str, Mapping[str, str]]],
    stages: Iterable[str],
) -> dict[str, StageState]:
    """What each stage at a worker is given back.

    Args:
        deal: which worker it is.
        chains: the parts of each worker before that are needed, the last one last.
        files: by worker before, stage and name, where copies of the files are.
        stages: the stages there are now. One that the parts do not know begins with nothing, but for the handles of
            its sinks: these go by the step, for a step may run in another stage now.
    """
    last = {worker: chain[-1] for worker, chain in chains.items() if worker in deal.last_from}
    sinks: dict[str, list[Any]] = {}
    for worker in deal.earlier:
        for snapshot in last[worker].values():
            for step, handles in snapshot.sinks.items():
                sinks.setdefault(step, []).extend(handles)
    return {stage: _state_of(stage, deal, chains, files, last, sinks) for stage in stages}


def _state_of(
    stage: str,
    deal: StateAssignment,
    chains: Mapping[int, Sequence[Part]],
    files: Mapping[int, Mapping[str, Mapping[str, str]]],
    last: Mapping[int, Part],
    sinks: Mapping[str, Sequence[Any]],
) -> StageState:
    known = {worker: part[stage] for worker, part in last.items() if stage in part}
    # What is over at a worker is gone from its shared part: the worker that is furthest back has all that is needed.
    by_time = [snapshot for _, snapshot in sorted(known.items(), key=lambda item: (item[1].watermark, item[0]))]
    root = RootState(
        keyed=[_chunks(stage, chains[worker]) for worker in deal.keyed_from],
        spread=deal.spread({worker: snapshot.root.spread for worker, snapshot in known.items()}),
        shared=next((s.root.shared for s in by_time if s.root.shared is not None), None),
        mine=deal.mine,
        files=[files.get(worker, {}).get(stage, {}) for worker in deal.keyed_from],
    )
    watermark = min((snapshot.watermark for snapshot in known.values()), default=MIN_MICROS)
    return StageState(watermark, root, sinks, deal.earlier)


def _chunks(stage: str, chain: Sequence[Part]) -> list[bytes]:
    """The keyed state of a stage: the last whole chunk, then the changes."""
    chunks: list[bytes] = []
    for part in chain:
        root = part[stage].root if stage in part else RootSnapshot(whole=False)
        if root.whole:
            chunks = []
        if root.keyed is not None:
            chunks.append(root.keyed)
    return chunks
