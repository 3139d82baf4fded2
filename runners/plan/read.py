"""Reads a Beam pipeline proto into steps. The only reader of Beam's protos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from apache_beam.internal import pickler
from apache_beam.portability import common_urns, python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.pvalue import SideInputData
from apache_beam.runners.pipeline_context import PipelineContext
from apache_beam.testing.test_stream import PairWithTiming as BeamPairWithTiming
from apache_beam.testing.test_stream import TestStream as BeamTestStream
from apache_beam.transforms import core, environments, sideinputs

from sage.errors import ConfigError, IncompatibleEnvironment, InvalidPipeline
from sage.runners.engine.core import spec
from sage.runners.engine.core.spec import CollectionId, StepId

_PRIMITIVES = common_urns.primitives
_COMPOSITES = common_urns.composites
_COMPONENTS = common_urns.combine_components
_COMBINES = frozenset({_COMPOSITES.COMBINE_PER_KEY.urn, _COMPONENTS.COMBINE_GROUPED_VALUES.urn})


@dataclass(frozen=True)
class Graph:
    """A pipeline as the passes see it: steps in topological order, and the collections between them."""

    steps: tuple[spec.Step, ...]
    collections: dict[CollectionId, spec.Collection]


class UnknownTransform(Exception):
    """A transform that SAGE does not know; the features table turns it into a refusal."""

    def __init__(self, name: str, urn: str) -> None:
        super().__init__(f"{name}: {urn or 'no URN'}")
        self.name = name
        self.urn = urn


def read_graph(proto: beam_runner_api_pb2.Pipeline, created: Mapping[str, Any] | None = None) -> Graph:
    """Steps and collections of a pipeline.

    Args:
        proto: the pipeline.
        created: by the names of steps, what need not be unpickled, as `created_in` gives it.

    Raises:
        UnknownTransform: a leaf transform's URN is not known.
        InvalidPipeline: a part of it cannot be decoded here.
        IncompatibleEnvironment: it was made by another version of Beam or Python.
    """
    return _Reader(proto, created or {}).read()


class _Reader:
    def __init__(self, proto: beam_runner_api_pb2.Pipeline, created: Mapping[str, Any]) -> None:
        self._proto = proto
        self._created = created
        self._transforms = proto.components.transforms
        self._context = PipelineContext(proto.components)

    def read(self) -> Graph:
        self._check_environments()
        steps = [step for root in self._proto.root_transform_ids for step in self._expand(root)]
        used = {c for step in steps for c in (*step.inputs, *step.outputs.values())}
        used |= {s.collection for step in steps if isinstance(step, spec.ParDo) for s in step.side_inputs}
        makers = {c: step.name for step in steps for c in step.outputs.values()}
        ordered = _topological(steps)
        fired = _fired(ordered)
        return Graph(ordered, {c: self._collection(c, makers, c in fired) for c in sorted(used)})

    def _check_environments(self) -> None:
        """Refuses what was made by another Beam or Python: its pickled functions may mean something else here."""
        installed = environments.sdk_base_version_capability()
        used = {transform.environment_id for transform in self._transforms.values()}
        for id in used & set(self._proto.components.environments):
            for there in self._proto.components.environments[id].capabilities:
                if not there.startswith(environments.SDK_VERSION_CAPABILITY_PREFIX) or there == installed:
                    continue
                if not ("rc" in there and installed in there):
                    raise IncompatibleEnvironment(there, installed)

    def _collection(self, id: CollectionId, makers: Mapping[CollectionId, str], fired: bool) -> spec.Collection:
        proto = self._proto.components.pcollections[id]
        return spec.Collection(
            id,
            makers.get(id, proto.unique_name),
            self._context.coders.get_by_id(proto.coder_id),
            self._context.windowing_strategies.get_by_id(proto.windowing_strategy_id),
            proto.is_bounded != beam_runner_api_pb2.IsBounded.UNBOUNDED,
            fired,
        )

    def _expand(self, transform_id: str) -> Iterator[spec.Step]:
        proto = self._transforms[transform_id]
        if is_readable(proto):
            yield _READERS[proto.spec.urn](self, transform_id, proto)
        elif proto.subtransforms:
            for child in proto.subtransforms:
                yield from self._expand(child)
        elif set(proto.outputs.values()) <= set(proto.inputs.values()):
            return  # a composite that hands its input on, or does nothing
        elif pairs_with_timing(proto):
            yield spec.PairWithTiming(**self._base(transform_id, proto))
        else:
            raise UnknownTransform(proto.unique_name, proto.spec.urn)

    def _base(self, id: str, proto: Any, inputs: Any = None) -> dict[str, Any]:
        outputs = {
            (None if len(proto.outputs) == 1 or tag in ("None", "out") else tag): CollectionId(c)
            for tag, c in proto.outputs.items()
        }
        chosen = list(proto.inputs.values()) if inputs is None else inputs
        return {
            "id": StepId(id),
            "name": proto.unique_name,
            "inputs": tuple(CollectionId(c) for c in chosen),
            "outputs": outputs,
        }

    def window_into(self, id: str, proto: Any) -> spec.Step:
        # The output's strategy holds the payload's window function, and more.
        output = self._proto.components.pcollections[next(iter(proto.outputs.values()))]
        windowing = self._context.windowing_strategies.get_by_id(output.windowing_strategy_id)
        return spec.AssignWindows(**self._base(id, proto), windowing=windowing)

    def test_stream(self, id: str, proto: Any) -> spec.Step:
        payload = beam_runner_api_pb2.TestStreamPayload.FromString(proto.spec.payload)
        stream = BeamTestStream.from_runner_api_parameter(proto, payload, self._context)
        base = self._base(id, proto)
        base["outputs"] = {
            (None if tag in ("None", "out") else tag): CollectionId(c) for tag, c in proto.outputs.items()
        }
        return spec.TestStream(
            **base, events=tuple(stream._events), endpoint=stream._endpoint or "", coder=stream.coder
        )

    def par_do(self, id: str, proto: Any) -> spec.Step:
        payload = beam_runner_api_pb2.ParDoPayload.FromString(proto.spec.payload)
        sides = tuple(
            spec.SideInput(
                tag, CollectionId(proto.inputs[tag]), SideInputData.from_runner_api(side, self._context)
            )
            for tag, side in sorted(
                payload.side_inputs.items(), key=lambda item: sideinputs.get_sideinput_index(item[0])
            )
        )
        timers = dict(payload.timer_family_specs)
        main = [c for tag, c in proto.inputs.items() if tag not in payload.side_inputs and tag not in timers]
        serialized = core.DoFnInfo.from_runner_api(payload.do_fn, self._context).serialized_dofn_data()
        base = self._base(id, proto, main)
        base["outputs"] = {
            (None if tag == "None" else tag): CollectionId(c) for tag, c in proto.outputs.items()
        }
        return spec.ParDo(
            **base,
            dofn=self._load(proto.unique_name, serialized, main[0]),
            side_inputs=sides,
            timer_families={name: timer.time_domain for name, timer in timers.items()},
            stateful=bool(payload.state_specs or timers),
            splittable=bool(payload.restriction_coder_id),
            serialized=serialized,
        )

    def _load(self, name: str, serialized: bytes, main: str) -> spec.DoFnSpec:
        try:
            fn, args, kwargs, _, windowing = self._created.get(name) or pickler.loads(serialized)
        except ConfigError:
            raise  # says by itself what to change
        except Exception as error:
            raise InvalidPipeline(
                f"step '{name}': its DoFn cannot be unpickled here: {type(error).__name__}: {error}"
            ) from error
        if not windowing:
            strategy = self._proto.components.pcollections[main].windowing_strategy_id
            windowing = self._context.windowing_strategies.get_by_id(strategy)
        return spec.DoFnSpec(fn, tuple(args), dict(kwargs), windowing)


_Read = Callable[[_Reader, str, Any], spec.Step]


def _plain(kind: type[spec.Step]) -> _Read:
    return lambda reader, id, proto: kind(**reader._base(id, proto))


def _combine(kind: type[spec.Step], *copies: str) -> _Read:
    """Reads a step that has a combine function, or several copies of it."""

    def read(reader: _Reader, id: str, proto: Any) -> spec.Step:
        payload = beam_runner_api_pb2.CombinePayload.FromString(proto.spec.payload)
        fns = {copy: core.CombineFn.from_runner_api(payload.combine_fn, reader._context) for copy in copies}
        return kind(**reader._base(id, proto), **fns)

    return read


_READERS: dict[str, _Read] = {
    _PRIMITIVES.IMPULSE.urn: _plain(spec.Impulse),
    _PRIMITIVES.FLATTEN.urn: _plain(spec.Flatten),
    _PRIMITIVES.GROUP_BY_KEY.urn: _plain(spec.GroupByKey),
    _PRIMITIVES.PAR_DO.urn: _Reader.par_do,
    _PRIMITIVES.ASSIGN_WINDOWS.urn: _Reader.window_into,
    _PRIMITIVES.TEST_STREAM.urn: _Reader.test_stream,
    _COMPOSITES.RESHUFFLE.urn: _plain(spec.Redistribute),
    _COMPOSITES.COMBINE_PER_KEY.urn: _combine(spec.CombinePerKey, "combine_fn", "twin_fn"),
    _COMPONENTS.COMBINE_GROUPED_VALUES.urn: _combine(spec.CombineValues, "combine_fn"),
}


def pairs_with_timing(proto: Any) -> bool:
    """Whether a transform is the one that Beam's ``ReverseTestStream`` has the runner do."""
    if proto.spec.urn != python_urns.PICKLED_TRANSFORM:
        return False
    try:
        return type(pickler.loads(proto.spec.payload)) is BeamPairWithTiming
    except Exception:
        return False  # of somebody else's making, and refused as unknown


def is_readable(proto: Any) -> bool:
    """Whether a transform is read as one step, whatever it is made of.

    A combine that has side inputs is not: its payload leaves them out, its parts have them.
    """
    urn = proto.spec.urn
    with_sides = urn in _COMBINES and len(proto.inputs) > 1 and proto.subtransforms
    return urn in _READERS and not with_sides


def _topological(steps: list[spec.Step]) -> tuple[spec.Step, ...]:
    """Steps so that a collection is made before it is read; side inputs count as reads.

    Depth first from the last steps would do too; this keeps the order of the user's program where it can,
    and puts what makes a side input before what waits for it.
    """
    maker = {c: step for step in steps for c in step.outputs.values()}
    ordered: dict[StepId, spec.Step] = {}
    for step in steps:
        stack = [(step, iter(_reads(step)))]
        while stack:
            current, reads = stack[-1]
            needed = next((maker[c] for c in reads if c in maker and maker[c].id not in ordered), None)
            if needed is None:
                ordered.setdefault(current.id, current)
                stack.pop()
            else:
                stack.append((needed, iter(_reads(needed))))
    return tuple(ordered.values())


def _fired(steps: Iterable[spec.Step]) -> set[CollectionId]:
    """What comes out of a grouping and has its windows still."""
    found: set[CollectionId] = set()
    for step in steps:
        groups = isinstance(step, spec.GroupByKey | spec.CombinePerKey)
        if groups or (found.intersection(step.inputs) and not isinstance(step, spec.AssignWindows)):
            found.update(step.outputs.values())
    return found


def _reads(step: spec.Step) -> tuple[CollectionId, ...]:
    sides = step.side_inputs if isinstance(step, spec.ParDo) else ()
    return (*(s.collection for s in sides), *step.inputs)
