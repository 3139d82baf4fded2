"""State specs beside Beam's own: a map of entries, and state with a time to live.

Each is derived from the spec of Beam's that can hold the same, so that every Beam runner takes it; the URN of its
protocol says in the proto what it is. Sage's engine keeps a map entry by entry. Elsewhere a map is one value, and
`sage.handles.MapHandle` is the same over both. The time to live is kept by the handles of `sage.state`, which put the
instant of writing beside each value, so it holds on every runner; Sage's engine also drops what expired in the
background.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from apache_beam import CombineFn, coders
from apache_beam.transforms import userstate

__all__ = [
    "MAP_TTL_URN",
    "MAP_URN",
    "TTL_URN",
    "BagWithTtl",
    "CombiningValueWithTtl",
    "MapStateSpec",
    "StampedCombineFn",
    "Ttl",
    "ValueWithTtl",
    "stamped",
]

MAP_URN = "sage:user_state:map:v1"
MAP_TTL_URN = "sage:user_state:map:v1+ttl"
TTL_URN = "sage:user_state:with_ttl:v1"


@dataclass(frozen=True)
class Ttl:
    """How long a value is held after it was last written.

    Attributes:
        ms: the time to live (milliseconds).
        event_time: whether time is that of the elements and timers, else the processing time of the runner.
    """

    ms: int
    event_time: bool = False


class _Named:
    """Says in the proto what kind of state this is."""

    urn = TTL_URN

    def to_runner_api(self, context: Any) -> Any:
        proto = super().to_runner_api(context)  # type: ignore[misc]
        proto.protocol.urn = self.urn
        return proto


class MapStateSpec(_Named, userstate.ReadModifyWriteStateSpec):
    """A map for each key, read and written entry by entry.

    On Sage's engine a DoFn that asks for it is given ``get(key, default=None)``, ``put(key, value)``, ``remove(key)``,
    ``contains(key)``, ``keys()``, ``items()``, ``is_empty()`` and ``clear()``; none of them loads the map. Entries come
    in no promised order. On other runners it is one value that is a dict: `sage.handles.MapHandle` hides which.

    Args:
        name: the state's identity within the step.
        key_coder: of the entries' keys; two are one entry when their encoded bytes are equal.
        value_coder: of the entries' values.
        ttl: how long an entry lives, where values are ``(instant of writing in ms, value)``.
    """

    def __init__(
        self, name: str, key_coder: coders.Coder, value_coder: coders.Coder, ttl: Ttl | None = None
    ) -> None:
        super().__init__(name, coders.MapCoder(key_coder, value_coder))
        self.key_coder, self.value_coder, self.ttl = key_coder, value_coder, ttl

    @property
    def urn(self) -> str:  # type: ignore[override]
        return MAP_URN if self.ttl is None else MAP_TTL_URN


class ValueWithTtl(_Named, userstate.ReadModifyWriteStateSpec):
    """One value for each key, held as ``(instant of writing in ms, value)``."""

    def __init__(self, name: str, coder: coders.Coder, ttl: Ttl) -> None:
        super().__init__(name, stamped(coder))
        self.ttl = ttl


class BagWithTtl(_Named, userstate.BagStateSpec):
    """Values, each held as ``(instant of writing in ms, value)``."""

    def __init__(self, name: str, coder: coders.Coder, ttl: Ttl) -> None:
        super().__init__(name, stamped(coder))
        self.ttl = ttl


class StampedCombineFn(CombineFn):
    """Combines ``(instant, value)`` to ``(instant of the last addition, what another CombineFn makes of the values)``.

    Args:
        inner: the other CombineFn, or a function of an iterable.
    """

    NEVER = -(1 << 62)

    def __init__(self, inner: Any) -> None:
        self.inner = CombineFn.maybe_from_callable(inner)

    def setup(self, *args: Any, **kwargs: Any) -> None:
        self.inner.setup(*args, **kwargs)

    def create_accumulator(self) -> tuple[int, Any]:
        return self.NEVER, self.inner.create_accumulator()

    def add_input(self, accumulator: tuple[int, Any], element: tuple[int, Any]) -> tuple[int, Any]:
        return element[0], self.inner.add_input(accumulator[1], element[1])

    def merge_accumulators(self, accumulators: Iterable[tuple[int, Any]]) -> tuple[int, Any]:
        parts = list(accumulators)
        latest = max((instant for instant, _ in parts), default=self.NEVER)
        return latest, self.inner.merge_accumulators([part for _, part in parts])

    def extract_output(self, accumulator: tuple[int, Any]) -> tuple[int, Any]:
        return accumulator[0], self.inner.extract_output(accumulator[1])

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        self.inner.teardown(*args, **kwargs)


class CombiningValueWithTtl(_Named, userstate.CombiningValueStateSpec):
    """An accumulator, held as ``(instant of the last addition in ms, accumulator)``.

    Args:
        name: the state's identity within the step.
        coder: of the accumulator alone; None for what the CombineFn says.
        combine_fn: of the values alone.
        ttl: how long it lives after the last addition.
    """

    def __init__(self, name: str, coder: coders.Coder | None, combine_fn: Any, ttl: Ttl) -> None:
        fn = StampedCombineFn(combine_fn)
        super().__init__(name, stamped(coder or fn.inner.get_accumulator_coder()), fn)
        self.ttl = ttl


def stamped(coder: coders.Coder) -> coders.Coder:
    """The coder of ``(instant in ms, value)``."""
    return coders.TupleCoder((coders.VarIntCoder(), coder))
