"""Which cell holds which kind of state."""

from __future__ import annotations

from typing import Any

from apache_beam.transforms import userstate

from sage.runners.engine.operators.keyed.cells import BagCell, Cell, CombiningCell, OrderedListCell, SetCell, ValueCell
from sage.runners.engine.operators.keyed.maps import MapCell
from sage.statespecs import MapStateSpec

KINDS: dict[type, type[Cell]] = {
    userstate.ReadModifyWriteStateSpec: ValueCell,
    userstate.BagStateSpec: BagCell,
    userstate.SetStateSpec: SetCell,
    userstate.CombiningValueStateSpec: CombiningCell,
    userstate.OrderedListStateSpec: OrderedListCell,
    MapStateSpec: MapCell,
}


def kind_of(spec: Any) -> type[Cell]:
    """The class of cells for a state spec; a spec of somebody's own is of the kind that it is derived from."""
    return next(KINDS[cls] for cls in type(spec).__mro__ if cls in KINDS)
