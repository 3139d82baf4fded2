"""What the engine is asked to run: steps, collections and stages, free of any wire format.

The plan builds these; every host runs them. All are frozen and printable.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NewType

StepId = NewType("StepId", str)
CollectionId = NewType("CollectionId", str)
MAIN = "main"


@dataclass(frozen=True)
class Collection:
    """A PCollection: its element coder and its windowing strategy (Beam's own objects).

    ``name`` is that of the step that makes it; ``fired`` says that its elements come out of a grouping, by its trigger.
    """

    id: CollectionId
    name: str
    coder: Any
    windowing: Any
    bounded: bool = True
    fired: bool = False


@dataclass(frozen=True)
class SideInput:
    """A collection that a step reads whole, per window.

    ``data`` is Beam's ``SideInputData``: access pattern, window mapping and view function.
    """

    tag: str
    collection: CollectionId
    data: Any


@dataclass(frozen=True)
class Step:
    """One transform of the user's pipeline that the engine runs.

    ``outputs`` maps an output tag (``None`` is the main one) to the collection it makes.
    """

    id: StepId
    name: str
    inputs: tuple[CollectionId, ...]
    outputs: Mapping[str | None, CollectionId]

    kind = "step"

    @property
    def output(self) -> CollectionId:
        """The one output of a step that has a single one."""
        (only,) = self.outputs.values()
        return only


@dataclass(frozen=True)
class Impulse(Step):
    """One empty ``bytes`` element in the global window at the minimum timestamp."""

    kind = "impulse"


@dataclass(frozen=True)
class TestStream(Step):
    """Elements, watermarks and clock advances in a given order, on a virtual clock.

    They are in ``events``, or come from a service at ``endpoint``, whose elements ``coder`` decodes.
    """

    events: Iterable[Any] = ()
    endpoint: str = ""
    coder: Any = None
    kind = "test stream"
    __test__ = False


@dataclass(frozen=True)
class PairWithTiming(Step):
    """Each element with the processing time and the watermark at which it came."""

    kind = "timing"


@dataclass(frozen=True)
class Flatten(Step):
    """The union of its inputs."""

    kind = "flatten"


@dataclass(frozen=True)
class Redistribute(Step):
    """Elements as they are, spread anew over the workers; one that ``gathers`` spreads only what is more than a little.
    """

    gathers: bool = False
    kind = "reshuffle"


@dataclass(frozen=True)
class AssignWindows(Step):
    """Gives each element the windows that ``windowing.windowfn`` assigns."""

    windowing: Any = None
    kind = "window"


@dataclass(frozen=True)
class GroupByKey(Step):
    """Values by key and window, fired by the windowing's trigger."""

    kind = "group by key"


@dataclass(frozen=True)
class CombinePerKey(Step):
    """A CombineFn over the values of each key and window.

    ``twin_fn`` is a second copy of the function: each half of a lifted combine sets up and tears down its own.
    """

    combine_fn: Any = None
    twin_fn: Any = None
    kind = "combine"


@dataclass(frozen=True)
class PreCombine(Step):
    """The half of a combine that runs before the shuffle: values in, accumulators out."""

    combine_fn: Any = None
    kind = "pre-combine"


@dataclass(frozen=True)
class MergeCombine(Step):
    """The half of a combine that runs after the shuffle: accumulators in, results out."""

    combine_fn: Any = None
    kind = "merge-combine"


@dataclass(frozen=True)
class CombineValues(Step):
    """A CombineFn over values that are grouped already."""

    combine_fn: Any = None
    kind = "combine values"


@dataclass(frozen=True)
class DoFnSpec:
    """A user's DoFn with its arguments, as it was serialised."""

    fn: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    windowing: Any


@dataclass(frozen=True)
class ParDo(Step):
    """A DoFn over each element.

    ``timer_families`` names each timer's time domain; a step with state or timers is keyed.
    """

    dofn: DoFnSpec = None  # type: ignore[assignment]
    side_inputs: tuple[SideInput, ...] = ()
    timer_families: Mapping[str, Any] = field(default_factory=dict)
    stateful: bool = False
    splittable: bool = False
    serialized: bytes = b""
    kind = "pardo"


@dataclass(frozen=True)
class SplitRestrictions(Step):
    """Pairs each element with its initial restriction and splits that: the half of a splittable DoFn before the
    exchange. Gives ``((element, (restriction, estimator state)), size)``.
    """

    dofn: DoFnSpec = None  # type: ignore[assignment]
    kind = "split"


@dataclass(frozen=True)
class Stage:
    """Steps that run fused: a root that takes the stage's input, and a tree of steps behind it.

    ``partition`` says how blocks reach the stage from other workers: ``"key"`` by key group, ``"spread"``
    anywhere, ``"gather"`` to the first one, or anywhere if there are many, ``"local"`` where they are made, ``"one"``
    at one worker only.
    """

    index: int
    root: Step
    fused: tuple[Step, ...]
    partition: str

    @property
    def steps(self) -> tuple[Step, ...]:
        """The root and the steps fused behind it, in topological order."""
        return (self.root, *self.fused)

    @property
    def ports(self) -> tuple[CollectionId, ...]:
        """The collections the stage reads, in order of its ports: its main inputs, then its side inputs."""
        sides = self.root.side_inputs if isinstance(self.root, ParDo) else ()
        return (*self.root.inputs, *(side.collection for side in sides))

    @property
    def name(self) -> str:
        """A short label for people: the first and the last step."""
        names = [step.name for step in self.steps]
        return names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]}"


@dataclass(frozen=True)
class Plan:
    """A whole job, ready to run: stages in topological order."""

    stages: tuple[Stage, ...]
    collections: Mapping[CollectionId, Collection]

    @functools.cached_property
    def unbounded(self) -> bool:
        """Whether any of it is a stream."""
        return any(not collection.bounded for collection in self.collections.values())

    @functools.cached_property
    def read(self) -> frozenset[CollectionId]:
        """The collections that stages read: those that leave the stage that makes them."""
        return frozenset(collection for stage in self.stages for collection in stage.ports)

    def leaving(self, stage: Stage) -> tuple[CollectionId, ...]:
        """The collections a stage makes that stages read."""
        return tuple(c for step in stage.steps for c in step.outputs.values() if c in self.read)

    def feeding(self, stages: Iterable[int]) -> set[int]:
        """These stages, and all that what they read comes from, by index."""
        makers = {c: stage.index for stage in self.stages for step in stage.steps for c in step.outputs.values()}
        found: set[int] = set()
        wanted = list(stages)
        while wanted:
            index = wanted.pop()
            if index not in found:
                found.add(index)
                wanted += [makers[collection] for collection in self.stages[index].ports]
        return found

    def consumers(self) -> dict[CollectionId, list[tuple[Stage, Step]]]:
        """Who takes each collection as a main input."""
        found: dict[CollectionId, list[tuple[Stage, Step]]] = {}
        for stage in self.stages:
            for step in stage.steps:
                for collection in step.inputs:
                    found.setdefault(collection, []).append((stage, step))
        return found
