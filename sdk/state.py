"""Keyed state: declared on the class of a keyed function, used through a handle while one key is processed.

Each declaration becomes one Beam state cell, so state is kept per key *and per window*, survives as the runner's
state does, and goes when its window expires::

    class CountPerKey(sage.KeyedProcessFunction):
        count = sage.ValueState("count", int, default=0)

        def process_element(self, value, ctx):
            self.count.update(self.count.value() + 1)
            yield ctx.key, self.count.value()

A state's identity is its name within the step; renaming it forgets what it held. Beam is imported only when a
cell is built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from sage.errors import ConfigError
from sage.handles import FoldHandle, Handle, ListHandle, MapHandle, SetHandle, StateNotReady, ValueHandle

if TYPE_CHECKING:
    from apache_beam.coders import Coder
    from apache_beam.transforms.userstate import StateSpec

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


def coder_of(of: Any) -> Coder:
    """The coder that Beam has for a type; a coder is taken as it is."""
    from apache_beam.coders import Coder, registry

    return of if isinstance(of, Coder) else registry.get_coder(of)


class State(Generic[H]):
    """A declaration: a class attribute that stands for a handle on each opened instance.

    Args:
        name: the state's identity within the step.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name.isidentifier():
            raise ConfigError(f"a state's name must be an identifier such as 'count', not {name!r}")
        self.name = name
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

    def attach(self, instance: object) -> H:
        """Give an opened function its handle; called by the step that runs it."""
        handle = vars(instance)[self._slot] = self.handle()
        return handle

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
    """

    def __init__(self, name: str, of: type[T] | Any = object, default: T | None = None) -> None:
        super().__init__(name)
        self.of, self.default = of, default

    def handle(self) -> ValueHandle[T]:
        return ValueHandle(self.name, self.default)

    def spec(self) -> StateSpec:
        from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

        return ReadModifyWriteStateSpec(self.name, coder_of(self.of))


class ListState(State[ListHandle[T]]):
    """Values added one by one for each key, without reading the others (Beam's bag state)."""

    def __init__(self, name: str, of: type[T] | Any = object) -> None:
        super().__init__(name)
        self.of = of

    def handle(self) -> ListHandle[T]:
        return ListHandle(self.name)

    def spec(self) -> StateSpec:
        from apache_beam.transforms.userstate import BagStateSpec

        return BagStateSpec(self.name, coder_of(self.of))


class SetState(State[SetHandle[T]]):
    """Distinct values for each key."""

    def __init__(self, name: str, of: type[T] | Any = object) -> None:
        super().__init__(name)
        self.of = of

    def handle(self) -> SetHandle[T]:
        return SetHandle(self.name)

    def spec(self) -> StateSpec:
        from apache_beam.transforms.userstate import SetStateSpec

        return SetStateSpec(self.name, coder_of(self.of))


class MapState(State[MapHandle[K, T]]):
    """A dict for each key.

    Beam has no map cell in Python: the dict is one value, read and written whole. Right for tens of entries; for
    many, make the entry's key part of the stream's key.
    """

    def __init__(self, name: str, of_keys: type[K] | Any = object, of_values: type[T] | Any = object) -> None:
        super().__init__(name)
        self.of_keys, self.of_values = of_keys, of_values

    def handle(self) -> MapHandle[K, T]:
        return MapHandle(self.name)

    def spec(self) -> StateSpec:
        from apache_beam.coders import MapCoder
        from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

        return ReadModifyWriteStateSpec(self.name, MapCoder(coder_of(self.of_keys), coder_of(self.of_values)))


class ReducingState(State[FoldHandle[T]]):
    """Values folded with a function of two, which must be associative and commutative."""

    def __init__(self, name: str, of: type[T] | Any, function: Callable[[T, T], T]) -> None:
        super().__init__(name)
        self.of, self.function = of, function

    def handle(self) -> FoldHandle[T]:
        return FoldHandle(self.name)

    def spec(self) -> StateSpec:
        from apache_beam.coders import TupleSequenceCoder
        from apache_beam.transforms.userstate import CombiningValueStateSpec

        from sage.dofns import ReduceCombineFn

        return CombiningValueStateSpec(self.name, TupleSequenceCoder(coder_of(self.of)), ReduceCombineFn(self.function))


class AggregatingState(State[FoldHandle[Any]]):
    """Values folded with a Beam ``CombineFn`` (or a function of an iterable, such as ``sum``)."""

    def __init__(self, name: str, combine_fn: Any) -> None:
        super().__init__(name)
        self.combine_fn = combine_fn

    def handle(self) -> FoldHandle[Any]:
        return FoldHandle(self.name)

    def spec(self) -> StateSpec:
        from apache_beam.transforms.userstate import CombiningValueStateSpec

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
