"""Two streams of different kinds, processed by one operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import apache_beam as beam
from apache_beam import typehints

from sage.dofns import CoFlatMapDoFn, CoMapDoFn
from sage.errors import ConfigError
from sage.functions import CoFlatMapFunction, CoMapFunction
from sage.joins import kv_types
from sage.keyed import KeyedCoProcessFunction
from sage.operators import declared_output, element_of, resolve
from sage.stateful import stateful_dofn
from sage.steps import Steps

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from sage.steps import StepOptions

__all__ = ["ConnectedStreams"]

S = TypeVar("S")


@dataclass(frozen=True)
class _Kind:
    """What may be done to both streams: ``transform`` with a function for each, ``dofn`` with one object for both."""

    name: str
    transform: Callable[..., beam.PTransform]
    accepts: type
    dofn: Callable[[Any, str], beam.DoFn]
    declared: Callable[[Any], Any]


_MAP = _Kind("map", beam.Map, CoMapFunction, CoMapDoFn, lambda cls: declared_output(cls.map1))
_FLAT_MAP = _Kind(
    "flat_map", beam.FlatMap, CoFlatMapFunction, CoFlatMapDoFn, lambda cls: element_of(declared_output(cls.flat_map1))
)


class ConnectedStreams(Generic[S]):
    """What `Stream.connect` gives: two streams that the next operator sees together.

    Both must have the same windows. No order is promised between the two.
    """

    def __init__(
        self,
        steps: Steps,
        first: beam.PCollection,
        second: beam.PCollection,
        keyed: bool,
        stream_of: Callable[[beam.PCollection], S],
    ) -> None:
        self._steps = steps
        self._first, self._second = first, second
        self._keyed = keyed
        self._stream_of = stream_of

    def map(
        self,
        first: Any,
        second: Callable[[Any], Any] | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        output_type: Any = None,
        **step: Unpack[StepOptions],
    ) -> S:
        """One output for each element of either stream.

        Args:
            first: a function for the first stream, with ``second`` for the other; or a `CoMapFunction` (an instance,
                or a class with ``config``) for both.
            second: the function for the second stream.
            config: constructor parameters of a class.
            output_type: the type of the outputs, where annotations do not say it.
            **step: see `StepOptions`.

        Raises:
            ConfigError: the functions or the config do not fit.
        """
        return self._either(_MAP, first, second, config, output_type, step)

    def flat_map(
        self,
        first: Any,
        second: Callable[[Any], Any] | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        output_type: Any = None,
        **step: Unpack[StepOptions],
    ) -> S:
        """Any number of outputs for each element of either stream; arguments as for `map`."""
        return self._either(_FLAT_MAP, first, second, config, output_type, step)

    def process(
        self,
        function: Any,
        config: Mapping[str, Any] | None = None,
        *,
        output_type: Any = None,
        **step: Unpack[StepOptions],
    ) -> S:
        """State and timers shared by two keyed streams.

        Args:
            function: a `KeyedCoProcessFunction`: an instance, or a class with ``config``.
            config: constructor parameters of a class.
            output_type: the type of the outputs, where annotations do not say it.
            **step: see `StepOptions`.

        Raises:
            ConfigError: one of the streams is not keyed, or the function or the config does not fit.
        """
        operator = resolve("process", function, KeyedCoProcessFunction, config)
        if not operator.is_object:
            raise ConfigError(f"{operator.label}: process takes a KeyedCoProcessFunction")
        if not self._keyed:
            raise ConfigError(f"{operator.label}: both connected streams must be keyed; call key_by on each first")
        output = output_type or element_of(declared_output(type(operator.function).process_element1))
        return self._both(lambda label: stateful_dofn(operator.function, label), operator.label, output, step)

    def _either(
        self,
        kind: _Kind,
        first: Any,
        second: Callable[[Any], Any] | None,
        config: Mapping[str, Any] | None,
        output_type: Any,
        step: Mapping[str, Any],
    ) -> S:
        """Two functions, one for each stream; or one object for both."""
        if second is not None:
            if config is not None:
                raise ConfigError(f"{kind.name}: config goes with one class for both streams, not with two functions")
            return self._each(kind, (first, second), output_type, step)
        operator = resolve(kind.name, first, kind.accepts, config)
        if not operator.is_object:
            raise ConfigError(f"{operator.label}: connected streams need two functions, or a {kind.accepts.__name__}")
        output = output_type or kind.declared(type(operator.function))
        return self._both(lambda label: kind.dofn(operator.function, label), operator.label, output, step)

    def _each(self, kind: _Kind, functions: tuple[Any, Any], output_type: Any, step: Mapping[str, Any]) -> S:
        operators = [resolve(kind.name, function, ()) for function in functions]
        transforms = [kind.transform(operator.function) for operator in operators]
        if output_type is not None:
            transforms = [each.with_output_types(output_type) for each in transforms]
        names = ", ".join(operator.label[len(kind.name) + 1 : -1] for operator in operators)
        label = self._steps.label(f"{kind.name}({names})", step)
        pair = (self._first, self._second)
        return self._stream_of(self._steps.apply(pair, _Each(*transforms), label, step))

    def _both(self, dofn_of: Callable[[str], beam.DoFn], default: str, output_type: Any, step: Mapping[str, Any]) -> S:
        label = self._steps.label(default, step)
        run = beam.ParDo(dofn_of(label))
        if output_type is not None:
            run = run.with_output_types(output_type)
        pair = (self._first, self._second)
        return self._stream_of(self._steps.apply(pair, _Both(run, self._keyed), label, step))


class _Each(beam.PTransform):
    """A transform for each of two collections, their outputs together."""

    def __init__(self, first: beam.PTransform, second: beam.PTransform) -> None:
        super().__init__()
        self.first, self.second = first, second

    def expand(self, pcollections):  # type: ignore[no-untyped-def]
        first, second = pcollections
        return (first | "First" >> self.first, second | "Second" >> self.second) | beam.Flatten()


class _Both(beam.PTransform):
    """One ParDo over two collections whose values are tagged 0 and 1, inside the pairs where they are keyed."""

    def __init__(self, run: beam.PTransform, keyed: bool) -> None:
        super().__init__()
        self.run = run
        self.keyed = keyed

    def expand(self, pcollections):  # type: ignore[no-untyped-def]
        tagged = [
            collection | name >> self._tag(collection, side)
            for side, (name, collection) in enumerate(zip(("First", "Second"), pcollections, strict=True))
        ]
        return tagged | beam.Flatten() | "Run" >> self.run

    def _tag(self, collection: beam.PCollection, side: int) -> beam.PTransform:
        if not self.keyed:
            return beam.Map(lambda value: (side, value)).with_output_types(typehints.Tuple[int, typehints.Any])
        key, _ = kv_types(collection)
        pair = typehints.Tuple[key, typehints.Tuple[int, typehints.Any]]
        return beam.Map(lambda kv: (kv[0], (side, kv[1]))).with_output_types(pair)
