"""Streams: each operator applies one Beam transform, in sight, and gives the stream of its outputs.

The collection behind a stream is `Stream.pcollection`; any Beam transform goes on it through `Stream.apply`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam import typehints
from apache_beam.utils.timestamp import Timestamp

from sage.connected import ConnectedStreams
from sage.dofns import FilterDoFn, FlatMapDoFn, MapDoFn, ReduceCombineFn, sink_dofn
from sage.errors import ConfigError
from sage.functions import FilterFunction, FlatMapFunction, MapFunction, ReduceFunction, SinkFunction
from sage.joins import Join, kv_types, sides
from sage.keyed import KeyedProcessFunction
from sage.operators import ResolvedFunction, declared_output, element_of, resolve
from sage.stateful import stateful_dofn
from sage.steps import Steps
from sage.transactions import TransactionalDoFn
from sage.windows import Length, window_into

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from sage.steps import StepOptions

__all__ = ["KeyedStream", "Stream"]

Config = Mapping[str, Any]
_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}


class Stream:
    """Elements on their way through a job; made by an environment and by the operators of other streams.

    Operators take their function as a function, as an instance of the operator's function class, or as such a
    class with a config dict of constructor parameters. All of them take the keyword arguments of `StepOptions`
    (``name``, ``parallelism``, ``resources``) and raise `ConfigError` for what does not fit, when they are called.
    """

    def __init__(
        self, steps: Steps, pcollection: beam.PCollection, tagged: Mapping[str, beam.PCollection] | None = None
    ) -> None:
        self._steps = steps
        self._pcollection = pcollection
        self._tagged = dict(tagged or {})

    @property
    def pcollection(self) -> beam.PCollection:
        """The Beam collection behind this stream."""
        return self._pcollection

    def side_output(self, tag: str) -> Stream:
        """The elements that the operator before gave out as ``sage.TaggedOutput(tag, value)``.

        Raises:
            ConfigError: the operator was not given this tag in ``side_outputs``.
        """
        if tag not in self._tagged:
            raise ConfigError(f"no side output {tag!r}; declared: {', '.join(self._tagged) or 'none'}")
        return Stream(self._steps, self._tagged[tag])

    def map(
        self, function: Any, config: Config | None = None, *, output_type: Any = None, **step: Unpack[StepOptions]
    ) -> Stream:
        """One output for each element.

        Args:
            function: a function, a `MapFunction`, or such a class with ``config``.
            config: constructor parameters of a class; keyword arguments of a function.
            output_type: the type of the outputs, where annotations do not say it; it chooses the coder.
            **step: see `StepOptions`.
        """
        operator = resolve("map", function, MapFunction, config)
        method = type(operator.function).map if operator.is_object else operator.function
        output_type = output_type or declared_output(method)
        return self._pardo(operator, beam.Map, MapDoFn, output_type, step)

    def flat_map(
        self,
        function: Any,
        config: Config | None = None,
        *,
        output_type: Any = None,
        side_outputs: Sequence[str] = (),
        **step: Unpack[StepOptions],
    ) -> Stream:
        """Any number of outputs for each element.

        Args:
            function: a function or generator, a `FlatMapFunction`, or such a class with ``config``.
            config: constructor parameters of a class; keyword arguments of a function.
            output_type: the type of the outputs, where annotations do not say it.
            side_outputs: the tags under which the function also gives out elements; see `side_output`.
            **step: see `StepOptions`.
        """
        operator = resolve("flat_map", function, FlatMapFunction, config)
        method = type(operator.function).flat_map if operator.is_object else operator.function
        output_type = output_type or element_of(declared_output(method))
        return self._pardo(operator, beam.FlatMap, FlatMapDoFn, output_type, step, side_outputs)

    def filter(self, function: Any, config: Config | None = None, **step: Unpack[StepOptions]) -> Self:
        """The elements for which ``function`` (also a `FilterFunction`) says yes."""
        operator = resolve("filter", function, FilterFunction, config)
        kept = self._pardo(operator, beam.Filter, FilterDoFn, self._pcollection.element_type, step)
        return self._same(kept.pcollection)

    def process(
        self,
        function: Any,
        config: Config | None = None,
        *,
        output_type: Any = None,
        side_outputs: Sequence[str] = (),
        **step: Unpack[StepOptions],
    ) -> Stream:
        """A Beam ``DoFn``, with all that Beam gives one; keyed streams also take a `KeyedProcessFunction`.

        Args:
            function: an instance, or a class with ``config``.
            config: constructor parameters of a class.
            output_type: the type of the outputs, where annotations do not say it.
            side_outputs: the tags under which the function also gives out elements; see `side_output`.
            **step: see `StepOptions`.
        """
        operator = resolve("process", function, (beam.DoFn, KeyedProcessFunction), config)
        if not operator.is_object:
            raise ConfigError(f"{operator.label}: process takes a Beam DoFn or a KeyedProcessFunction")
        if not isinstance(operator.function, KeyedProcessFunction):
            return self._pardo(operator, beam.Map, lambda dofn, _: dofn, output_type, step, side_outputs)
        if not isinstance(self, KeyedStream):
            raise ConfigError(f"{operator.label}: a KeyedProcessFunction needs a keyed stream; call key_by first")
        output_type = output_type or element_of(declared_output(type(operator.function).process_element))
        return self._pardo(operator, beam.Map, stateful_dofn, output_type, step, side_outputs)

    def key_by(
        self, function: Any, config: Config | None = None, *, key_type: Any = None, **step: Unpack[StepOptions]
    ) -> KeyedStream:
        """Pairs of ``function``'s result and the element. Keys are compared by their encoded bytes.

        Args:
            function: the key of an element: a function, or a callable class with ``config``.
            config: constructor parameters of a class; keyword arguments of a function.
            key_type: the type of the keys, where Beam cannot infer it; its coder must be deterministic.
            **step: see `StepOptions`.
        """
        operator = resolve("key_by", function, (), config)
        key_of, value_type = operator.bound(), self._pcollection.element_type
        if key_type is None:
            key_type = beam.Map(key_of).infer_output_type(value_type)
        pair = beam.Map(lambda value: (key_of(value), value))
        pair = pair.with_output_types(typehints.Tuple[key_type, value_type])
        label = self._steps.label(operator.label, step)
        return KeyedStream(self._steps, self._steps.apply(self._pcollection, pair, label, step))

    def as_keyed(self) -> KeyedStream:
        """This stream of (key, value) pairs, taken as a keyed one; adds no step."""
        return KeyedStream(self._steps, self._pcollection)

    def with_timestamps(self, function: Any, unit: str = "s", **step: Unpack[StepOptions]) -> Self:
        """Set each element's event time.

        Args:
            function: the event time of an element: a number since the Unix epoch in ``unit``, a ``datetime`` with a
                time zone, or a Beam ``Timestamp``.
            unit: ``s``, ``ms`` or ``us``; Beam keeps microseconds.
            **step: see `StepOptions`.
        """
        operator = resolve("with_timestamps", function, ())
        if unit not in _UNITS:
            raise ConfigError(f"{operator.label}: unknown unit {unit!r}. Accepted: {', '.join(_UNITS)}")
        micros, time_of = _UNITS[unit], operator.function
        stamp = beam.Map(lambda value: beam.window.TimestampedValue(value, _instant(time_of(value), micros)))
        stamp = stamp.with_output_types(self._pcollection.element_type)
        label = self._steps.label(operator.label, step)
        return self._same(self._steps.apply(self._pcollection, stamp, label, step))

    def window(
        self,
        windows: Any,
        *,
        trigger: Any = None,
        allowed_lateness: Length = 0,
        accumulation: str | int | None = None,
        timestamp_combiner: Any = None,
        **step: Unpack[StepOptions],
    ) -> Self:
        """Set the windows of what follows; arguments as for `sage.windows.window_into`.

        ``stream.window(TumblingWindows("1m"), allowed_lateness="10s")``
        """
        into = window_into(windows, trigger, allowed_lateness, accumulation, timestamp_combiner)
        label = self._steps.label(f"window({type(windows).__name__})", step)
        return self._same(self._steps.apply(self._pcollection, into, label, step))

    def reduce(self, function: Any, config: Config | None = None, **step: Unpack[StepOptions]) -> Self:
        """Fold the values of each key (all elements, where the stream is not keyed) of each window into one.

        Args:
            function: a function of two values, or a `ReduceFunction`; associative and commutative.
            config: constructor parameters of a class; keyword arguments of a function.
            **step: see `StepOptions`.
        """
        operator = resolve("reduce", function, ReduceFunction, config, positional=2)
        fold = operator.function.reduce if operator.is_object else operator.bound()
        value_type = self._value_type()
        combine = ReduceCombineFn(fold).with_input_types(value_type).with_output_types(value_type)
        return self._same(self._combine(combine, operator.label, step))

    def aggregate(
        self, function: Any, config: Config | None = None, *, output_type: Any = None, **step: Unpack[StepOptions]
    ) -> Self:
        """Combine the values of each key (all elements, where the stream is not keyed) of each window.

        A window without elements gives nothing.

        Args:
            function: a Beam ``CombineFn`` (an instance, or a class with ``config``), or a function of an iterable of
                values that may be put to its own results, such as ``sum`` or ``max`` (not ``len``).
            config: constructor parameters of a class; keyword arguments of a function.
            output_type: the type of the results, where annotations do not say it.
            **step: see `StepOptions`.
        """
        operator = resolve("aggregate", function, beam.CombineFn, config)
        combine: Any = operator.function if operator.is_object else operator.bound()
        if output_type is not None and operator.is_object:
            combine = combine.with_output_types(output_type)
        return self._same(self._combine(combine, operator.label, step))

    def join(
        self, other: Stream, *, on: Any = None, how: str = "inner", window: Any = None, **step: Unpack[StepOptions]
    ) -> KeyedStream:
        """Pair the elements of two streams that have one key in one window: ``(key, (left, right))``.

        A key that is None, or a tuple with None in it, equals no key, as NULL in SQL.

        Args:
            other: the right stream.
            on: a key function for both sides, or a pair of them; left out where both streams are keyed.
            how: ``inner``, ``left``, ``right`` or ``full``; a side without partner is None. ``semi`` and ``anti`` give
                ``(key, left)`` for what has a partner, or has none.
            window: windows for both sides; where left out, both must have the same windows already.
            **step: see `StepOptions`.
        """
        left, right = self, other
        label = self._steps.label(f"join({how})", step)
        if on is not None:
            left_key, right_key = sides(label, on)
            left, right = left.key_by(left_key, name=f"{label}.left"), right.key_by(right_key, name=f"{label}.right")
        if not (isinstance(left, KeyedStream) and isinstance(right, KeyedStream)):
            raise ConfigError(f"{label}: both streams must be keyed; call key_by on each, or say on=")
        if window is not None:
            left = left.window(window, name=f"{label}.left window")
            right = right.window(window, name=f"{label}.right window")
        pair = (left.pcollection, right.pcollection)
        return KeyedStream(self._steps, self._steps.apply(pair, Join(how), label, step))

    def union(self, *others: Stream, **step: Unpack[StepOptions]) -> Stream:
        """The elements of all the streams; keyed where all of them are. All must have the same windows."""
        streams = (self, *others)
        label = self._steps.label("union", step)
        collections = tuple(stream.pcollection for stream in streams)
        keyed = all(isinstance(stream, KeyedStream) for stream in streams)
        cls = KeyedStream if keyed else Stream
        return cls(self._steps, self._steps.apply(collections, beam.Flatten(), label, step))

    def connect(self, other: Stream) -> ConnectedStreams[Stream]:
        """This stream and another, which may differ in kind, for one operator that sees both."""
        keyed = isinstance(self, KeyedStream) and isinstance(other, KeyedStream)
        return ConnectedStreams(
            self._steps, self._pcollection, other.pcollection, keyed, lambda made: Stream(self._steps, made)
        )

    def sink(self, sink: Any, config: Config | None = None, **step: Unpack[StepOptions]) -> Self:
        """Send the elements out of the job. Gives this same stream, so that more can be put on it.

        Args:
            sink: a function, a `SinkFunction` or a `TransactionalDoFn`, such a class with ``config``, or a Beam
                transform that writes.
            config: constructor parameters of a class; keyword arguments of a function.
            **step: see `StepOptions`.
        """
        if isinstance(sink, beam.PTransform):
            if config is not None:
                raise ConfigError(
                    f"sink({sink.label}): config goes with a class; a transform has its arguments already"
                )
            label = self._steps.label(f"sink({sink.label})", step)
            self._steps.apply(self._pcollection, sink, label, step)
            return self
        operator = resolve("sink", sink, (SinkFunction, TransactionalDoFn), config)
        label = self._steps.label(operator.label, step)
        self._steps.apply(self._pcollection, beam.ParDo(sink_dofn(operator, label)), label, step)
        return self

    to_sink = sink

    def apply(self, transform: beam.PTransform, label: str | None = None, **step: Unpack[StepOptions]) -> Any:
        """Apply any Beam transform.

        Args:
            transform: takes one collection.
            label: the step's label; by default the transform's own. The same as ``name``.
            **step: see `StepOptions`.

        Returns:
            A `Stream` for a collection, tuples and dicts of streams for tuples and dicts of collections (tagged
            outputs are a tuple, the main one first), and what else the transform gives as it is.
        """
        if label is not None:
            step = {**step, "name": label}
        result = self._steps.apply(self._pcollection, transform, self._steps.label(transform.label, step), step)
        return self._streams_of(result)

    def _streams_of(self, result: Any) -> Any:
        if isinstance(result, beam.PCollection):
            return Stream(self._steps, result)
        if isinstance(result, beam.pvalue.DoOutputsTuple):
            return tuple(Stream(self._steps, part) for part in result)
        if isinstance(result, tuple):
            streams = [self._streams_of(part) for part in result]
            return type(result)(*streams) if hasattr(result, "_fields") else tuple(streams)
        if isinstance(result, dict):
            return {key: self._streams_of(part) for key, part in result.items()}
        return result

    def _same(self, pcollection: beam.PCollection) -> Self:
        return type(self)(self._steps, pcollection)

    def _value_type(self) -> Any:
        return self._pcollection.element_type

    def _combine(self, combine: Any, default: str, step: Mapping[str, Any]) -> beam.PCollection:
        # Without defaults: what an empty window gives would otherwise depend on how the stream is windowed.
        transform = beam.CombineGlobally(combine).without_defaults()
        return self._steps.apply(self._pcollection, transform, self._steps.label(default, step), step)

    def _pardo(
        self,
        operator: ResolvedFunction,
        plain: Callable[..., beam.PTransform],
        dofn_of: Callable[[Any, str], beam.DoFn],
        output_type: Any,
        step: Mapping[str, Any],
        tags: Sequence[str] = (),
    ) -> Stream:
        label = self._steps.label(operator.label, step)
        # What needs no opening goes to Beam's own transform, which runners know and compile best.
        if (call := operator.plain()) is not None:
            transform = plain(call, **operator.arguments)
        else:
            transform = beam.ParDo(dofn_of(operator.function, label))
        if output_type is not None:
            transform = transform.with_output_types(output_type)
        if not tags:
            return Stream(self._steps, self._steps.apply(self._pcollection, transform, label, step))
        outputs = self._steps.apply(self._pcollection, transform.with_outputs(*tags, main="main"), label, step)
        return Stream(self._steps, outputs["main"], {tag: outputs[tag] for tag in tags})


class KeyedStream(Stream):
    """A stream of (key, value) pairs. Operators see the pair, except where they say that they see the value."""

    def map_values(
        self, function: Any, config: Config | None = None, *, output_type: Any = None, **step: Unpack[StepOptions]
    ) -> KeyedStream:
        """One output for each value, under the same key; ``function`` sees the value."""
        operator = resolve("map_values", function, (), config)
        value_of, (key, value) = operator.bound(), kv_types(self._pcollection)
        if output_type is None:
            output_type = beam.Map(value_of).infer_output_type(value)
        pair = beam.Map(lambda kv: (kv[0], value_of(kv[1]))).with_output_types(typehints.Tuple[key, output_type])
        label = self._steps.label(operator.label, step)
        return self._same(self._steps.apply(self._pcollection, pair, label, step))

    def _value_type(self) -> Any:
        return kv_types(self._pcollection)[1]

    def _combine(self, combine: Any, default: str, step: Mapping[str, Any]) -> beam.PCollection:
        transform = beam.CombinePerKey(combine)
        return self._steps.apply(self._pcollection, transform, self._steps.label(default, step), step)


def _instant(time: Any, micros: int) -> Timestamp:
    """The Beam timestamp of what a user's timestamp function gave."""
    if isinstance(time, Timestamp):
        return time
    if isinstance(time, datetime.datetime):
        return Timestamp.from_utc_datetime(time.astimezone(datetime.timezone.utc))
    return Timestamp(micros=round(time * micros))
