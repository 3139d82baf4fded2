"""What a stage at one worker holds at a barrier, and what it is given back.

A snapshot is bytes and plain values: nothing that the stage goes on changing. Its parts differ in where they go when
the number of workers changes:

- ``keyed`` goes where the keys live: each worker is given the rows of all, and keeps those of its key groups;
- ``spread`` goes anywhere, each item to one worker;
- ``shared`` is equal at every worker, but for what a later watermark makes superfluous; each is given the one of the
  worker whose watermark is least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RootSnapshot:
    """What the root of a stage holds.

    Attributes:
        keyed: state by key, as the root encodes it; None for none, or for no change.
        whole: whether ``keyed`` is all there is; else it is what changed since the snapshot before, which was durable
            or not, but was taken.
        spread: items that any one worker can go on with.
        shared: what every worker of the same watermark holds equally.
        files: state by key in files that never change, name to path: only those with a new name need be copied. They
            stay where they are until the next snapshot is taken.
    """

    keyed: bytes | None = None
    whole: bool = True
    spread: Sequence[Any] = ()
    shared: bytes | None = None
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageSnapshot:
    """What a stage at one worker holds.

    Attributes:
        watermark: of its main inputs (microseconds).
        root: what its root holds.
        sinks: the handle of each prepared transaction, by step name.
    """

    watermark: int
    root: RootSnapshot
    sinks: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RootState:
    """What a root is given back.

    Attributes:
        keyed: for each worker there was, its ``keyed`` parts in order: a whole one, then the changes.
        spread: this worker's share of the items.
        shared: that of the worker whose watermark was least; None if there was none.
        mine: whether a key group is this worker's; None when all rows of ``keyed`` are.
        files: for each worker there was, its files, name to the path of a copy that may be used up.
    """

    keyed: Sequence[Sequence[bytes]] = ()
    spread: Sequence[Any] = ()
    shared: bytes | None = None
    mine: Callable[[int], bool] | None = None
    files: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class StageState:
    """What a stage at one worker is given back: `StageSnapshot`, with the parts that are this worker's.

    ``sinks`` has, by step name, the handles that this worker answers for, and ``earlier`` the subtasks they are of.
    """

    watermark: int
    root: RootState
    sinks: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    earlier: tuple[int, ...] = ()


@dataclass(frozen=True)
class Barrier:
    """Flows with the blocks of a channel: what comes before it belongs to the checkpoint.

    Attributes:
        epoch: the number of the checkpoint; it goes up.
        whole: whether every root is to give all it holds, not only what changed.
    """

    epoch: int
    whole: bool = False
