"""Keyed state: declared on the class of a keyed function, used through a handle while one key is processed.

Each declaration becomes one Beam state cell, so state is kept per key *and per window*, survives as the runner's
state does, and goes when its window expires::

    class CountPerKey(sage.KeyedProcessFunction):
        count = sage.ValueState("count", int, default=0)

        def process_element(self, value, ctx):
            self.count.update(self.count.value() + 1)
            yield ctx.key, self.count.value()

A state's identity is its name within the step; renaming it forgets what it held. With ``ttl_ms`` a value that was not
written for so long is seen no more: by the runner's processing time, or with ``ttl_time="event"`` by the event times of
the elements and timers that write and read it. Beam is imported only when a cell is built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from sage import expiring
from sage.errors import ConfigError
from sage.handles import FoldHandle, Handle, ListHandle, MapHandle, SetHandle, StateNotReady, ValueHandle

if TYPE_CHECKING:
    from apache_beam.coders import Coder
    from apache_beam.transforms.userstate import StateSpec

    from sage.keyed import KeyedContext
    from sage.statespecs import Ttl

__all__ = [
    "AggregatingState",
    "ListState",
    "MapState",
    "ReducingState",
    "SetState",
    "State",
    "ValueState",
    "declared_states",
]

K = TypeVar("K")
T = TypeVar("T")
H = TypeVar("H", bound="Handle")
TtlTime = Literal["processing", "event"]


def coder_of(of: Any) -> Coder:
    """The coder that Beam has for a type; a coder is taken as it is."""
    from apache_beam.coders import Coder, registry

    return of if isinstance(of, Coder) else registry.get_coder(of)


class State(Generic[H]):
    """A declaration: a class attribute that stands for a handle on each opened instance.

    Args:
        name: the state's identity within the step.
        ttl_ms: how long a value is held after it was last written (milliseconds); None for as long as its window.
        ttl_time: whose time that is: ``processing`` or ``event``.

    Raises:
        ConfigError: one of them is not as it should be.
    """

    def __init__(self, name: str, ttl_ms: int | None = None, ttl_time: TtlTime = "processing") -> None:
        if not isinstance(name, str) or not name.isidentifier():
            raise ConfigError(f"a state's name must be an identifier such as 'count', not {name!r}")
        if ttl_ms is not None and (not isinstance(ttl_ms, int) or ttl_ms < 1):
            raise ConfigError(f"state {name!r}: ttl_ms is a number of milliseconds above zero, not {ttl_ms!r}")
        if ttl_time not in ("processing", "event"):
            raise ConfigError(f"state {name!r}: ttl_time is 'processing' or 'event', not {ttl_time!r}")
        self.name = name
        self.ttl_ms, self.ttl_time = ttl_ms, ttl_time
        self._slot = name

    def __set_name__(self, owner: type, attribute: str) -> None:
        self._slot = attribute

    @overload
    def __get__(self, instance: None, owner: type) -> State[H]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> H: ...

    def __get__(self, instance: object | None, owner: type) -> State[H] | H:
        if instance is None:
            return self
        try:
            return vars(instance)[self._slot]
        except KeyError:
            raise StateNotReady(
                f"state {self.name!r} of {owner.__name__} is there once a runner has opened the function"
            ) from None

    def __set__(self, instance: object, value: object) -> None:
        raise AttributeError(f"state {self.name!r} cannot be assigned; use self.{self._slot}.update(...) or .add(...)")

    def attach(self, instance: object, context: KeyedContext | None = None) -> H:
        """Give an opened function its handle; called by the step that runs it, whose context tells event time."""
        handle = vars(instance)[self._slot] = self.handle()
        if isinstance(handle, expiring.Expiring) and self.ttl_ms is not None:
            handle.lifetime = expiring.Lifetime(self.ttl_ms, context if self.ttl_time == "event" else None)
        return handle

    def _ttl(self) -> Ttl | None:
        from sage.statespecs import Ttl

        return None if self.ttl_ms is None else Ttl(self.ttl_ms, self.ttl_time == "event")

    def handle(self) -> H:
        """A new handle that is bound to no key."""
        raise NotImplementedError

    def spec(self) -> StateSpec:
        """The Beam state cell that holds it."""
        raise NotImplementedError


class ValueState(State[ValueHandle[T]]):
    """One value for each key.

    Args:
        name: the state's identity within the step.
        of: the value's type, or a Beam coder.
        default: what an empty state reads as. It is shared by all keys, so it must not be changed in place.
        ttl_ms: how long the value is held after it was last written (milliseconds).
        ttl_time: ``processing`` or ``event``.
    """

    def __init__(
        self,
        name: str,
        of: type[T] | Any = object,
        default: T | None = None,
        *,
        ttl_ms: int | None = None,
        ttl_time: TtlTime = "processing",
    ) -> None:
        super().__init__(name, ttl_ms, ttl_time)
        self.of, self.default = of, default

    def handle(self) -> ValueHandle[T]:
        kind = ValueHandle if self.ttl_ms is None else expiring.ExpiringValueHandle
        return kind(self.name, self.default)

    def spec(self) -> StateSpec:
        from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

        from sage.statespecs import ValueWithTtl

        if ttl := self._ttl():
            return ValueWithTtl(self.name, coder_of(self.of), ttl)
        return ReadModifyWriteStateSpec(self.name, coder_of(self.of))


class ListState(State[ListHandle[T]]):
    """Values added one by one for each key, without reading the others (Beam's bag state).

    Each lives ``ttl_ms`` milliseconds, if that is given.
    """

    def __init__(
        self,
        name: str,
        of: type[T] | Any = object,
        *,
        ttl_ms: int | None = None,
        ttl_time: TtlTime = "processing",
    ) -> None:
        super().__init__(name, ttl_ms, ttl_time)
        self.of = of

    def handle(self) -> ListHandle[T]:
        return ListHandle(self.name) if self.ttl_ms is None else expiring.ExpiringListHandle(self.name)

    def spec(self) -> StateSpec:
        from apache_beam.transforms.userstate import BagStateSpec

        from sage.statespecs import BagWithTtl

        if ttl := self._ttl():
            return BagWithTtl(self.name, coder_of(self.of), ttl)
        return BagStateSpec(self.name, coder_of(self.of))


class SetState(State[SetHandle[T]]):
    """Distinct values for each key.

    Each lives ``ttl_ms`` milliseconds after it was last added, if that is given.
    """

    def __init__(
        self,
        name: str,
        of: type[T] | Any = object,
        *,
        ttl_ms: int | None = None,
        ttl_time: TtlTime = "processing",
    ) -> None:
        super().__init__(name, ttl_ms, ttl_time)
        self.of = of

    def handle(self) -> SetHandle[T]:
        return SetHandle(self.name) if self.ttl_ms is None else expiring.ExpiringSetHandle(self.name)

    def spec(self) -> StateSpec:
        from apache_beam.transforms.userstate import SetStateSpec

        from sage.statespecs import MapStateSpec, stamped

        if ttl := self._ttl():
            return MapStateSpec(self.name, coder_of(self.of), stamped(coder_of(object)), ttl)
        return SetStateSpec(self.name, coder_of(self.of))


class MapState(State[MapHandle[K, T]]):
    """A map for each key, whose entries are read and written one by one.

    A map may have more entries than memory has room for, with ``--state_backend=rocksdb``. Runners other than Sage's
    keep it as one dict, which is read and written whole.

    Args:
        name: the state's identity within the step.
        of_keys: the type of the entries' keys, or a Beam coder.
        of_values: the type of their values, or a Beam coder.
        ttl_ms: how long an entry is held after it was last written (milliseconds).
        ttl_time: ``processing`` or ``event``.
    """

    def __init__(
        self,
        name: str,
        of_keys: type[K] | Any = object,
        of_values: type[T] | Any = object,
        *,
        ttl_ms: int | None = None,
        ttl_time: TtlTime = "processing",
    ) -> None:
        super().__init__(name, ttl_ms, ttl_time)
        self.of_keys, self.of_values = of_keys, of_values

    def handle(self) -> MapHandle[K, T]:
        return MapHandle(self.name) if self.ttl_ms is None else expiring.ExpiringMapHandle(self.name)

    def spec(self) -> StateSpec:
        from sage.statespecs import MapStateSpec, stamped

        ttl, values = self._ttl(), coder_of(self.of_values)
        return MapStateSpec(self.name, coder_of(self.of_keys), stamped(values) if ttl else values, ttl)


class ReducingState(State[FoldHandle[T]]):
    """Values folded with a function of two, which must be associative and commutative.

    The result lives ``ttl_ms`` milliseconds after the last value was added, if that is given.
    """

    def __init__(
        self,
        name: str,
        of: type[T] | Any,
        function: Callable[[T, T], T],
        *,
        ttl_ms: int | None = None,
        ttl_time: TtlTime = "processing",
    ) -> None:
        super().__init__(name, ttl_ms, ttl_time)
        self.of, self.function = of, function

    def handle(self) -> FoldHandle[T]:
        return FoldHandle(self.name) if self.ttl_ms is None else expiring.ExpiringFoldHandle(self.name)

    def spec(self) -> StateSpec:
        from apache_beam.coders import TupleSequenceCoder
        from apache_beam.transforms.userstate import CombiningValueStateSpec

        from sage.dofns import ReduceCombineFn
        from sage.statespecs import CombiningValueWithTtl

        coder, fn = TupleSequenceCoder(coder_of(self.of)), ReduceCombineFn(self.function)
        if ttl := self._ttl():
            return CombiningValueWithTtl(self.name, coder, fn, ttl)
        return CombiningValueStateSpec(self.name, coder, fn)


class AggregatingState(State[FoldHandle[Any]]):
    """Values folded with a Beam ``CombineFn`` (or a function of an iterable, such as ``sum``).

    The result lives ``ttl_ms`` milliseconds after the last value was added, if that is given.
    """

    def __init__(
        self,
        name: str,
        combine_fn: Any,
        *,
        ttl_ms: int | None = None,
        ttl_time: TtlTime = "processing",
    ) -> None:
        super().__init__(name, ttl_ms, ttl_time)
        self.combine_fn = combine_fn

    def handle(self) -> FoldHandle[Any]:
        return FoldHandle(self.name) if self.ttl_ms is None else expiring.ExpiringFoldHandle(self.name)

    def spec(self) -> StateSpec:
        from apache_beam.transforms.userstate import CombiningValueStateSpec

        from sage.statespecs import CombiningValueWithTtl

        if ttl := self._ttl():
            return CombiningValueWithTtl(self.name, None, self.combine_fn, ttl)
        return CombiningValueStateSpec(self.name, combine_fn=self.combine_fn)


def declared_states(cls: type) -> dict[str, State[Any]]:
    """The states that a class and its bases declare, by state name, in order of declaration.

    Raises:
        ConfigError: two declarations have one name.
    """
    by_attribute: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        by_attribute.update(vars(base))
    states: dict[str, State[Any]] = {}
    for declared in by_attribute.values():
        if isinstance(declared, State):
            if declared.name in states:
                raise ConfigError(f"{cls.__name__} declares two states named {declared.name!r}")
            states[declared.name] = declared
    return states
