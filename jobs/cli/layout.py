"""Places for the boxes and lines of a small graph, in layers from top to bottom.

The steps are those of every layered drawing (Sugiyama): assign layers, cut long edges into short ones through
invisible points, order each layer so that few edges cross, then move boxes towards their neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Box", "Layout", "lay_out"]

_GAP_X = 28.0
_ORDER_SWEEPS = 12
_PLACE_SWEEPS = 24


@dataclass
class Box:
    """A place: ``x`` is its middle (px), ``layer`` counts from the top. Points on long edges have ``width`` 0."""

    width: float
    layer: int
    x: float = 0.0


@dataclass(frozen=True)
class Layout:
    """Where everything goes.

    Attributes:
        boxes: by node name.
        routes: for each edge the boxes that its line passes, both ends included.
        width: of the whole drawing (px).
        layers: how many there are.
    """

    boxes: Mapping[str, Box]
    routes: Mapping[tuple[str, str], Sequence[Box]]
    width: float
    layers: int


def lay_out(widths: Mapping[str, float], edges: Sequence[tuple[str, str]]) -> Layout:
    """Place nodes of the given widths (px), listed so that every edge goes from an earlier to a later one."""
    boxes = {name: Box(widths[name], layer) for name, layer in _layers(list(widths), edges).items()}
    routes = {edge: _route(boxes[edge[0]], boxes[edge[1]]) for edge in edges}
    layers: list[list[Box]] = [[] for _ in range(1 + max((box.layer for box in boxes.values()), default=-1))]
    for box in boxes.values():
        layers[box.layer].append(box)
    for route in routes.values():
        for point in route[1:-1]:
            layers[point.layer].append(point)
    above: dict[int, list[Box]] = {}
    below: dict[int, list[Box]] = {}
    for route in routes.values():
        for upper, lower in pairwise(route):
            below.setdefault(id(upper), []).append(lower)
            above.setdefault(id(lower), []).append(upper)
    _order(layers, above, below)
    _spread(layers, above, below)
    left = min((box.x - box.width / 2 for layer in layers for box in layer), default=0.0)
    for layer in layers:
        for box in layer:
            box.x -= left
    width = max((box.x + box.width / 2 for layer in layers for box in layer), default=0.0)
    return Layout(boxes, routes, width, len(layers))


def _layers(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    layer = dict.fromkeys(names, 0)
    targets: dict[str, list[str]] = {name: [] for name in names}
    fed: set[str] = set()
    for source, target in edges:
        targets[source].append(target)
        fed.add(target)
    for name in names:
        for target in targets[name]:
            layer[target] = max(layer[target], layer[name] + 1)
    for name in names:
        # A source that is needed late (a side input, mostly) stands next to the step that needs it.
        if name not in fed and targets[name]:
            layer[name] = min(layer[target] for target in targets[name]) - 1
    return layer


def _route(source: Box, target: Box) -> list[Box]:
    return [source, *(Box(0.0, layer) for layer in range(source.layer + 1, target.layer)), target]


def _order(layers: list[list[Box]], above: dict[int, list[Box]], below: dict[int, list[Box]]) -> None:
    """Sort each layer by the mean place of its neighbours, down and up in turn; keep the best order seen."""
    best = [list(layer) for layer in layers]
    fewest = _crossings(layers, below)
    for sweep in range(_ORDER_SWEEPS):
        down = sweep % 2 == 0
        neighbours = above if down else below
        sequence = range(1, len(layers)) if down else range(len(layers) - 2, -1, -1)
        for index in sequence:
            place = {id(box): n for n, box in enumerate(layers[index - 1 if down else index + 1])}
            own = {id(box): n for n, box in enumerate(layers[index])}
            layers[index].sort(key=lambda box: _mean_place(box, neighbours, place, own))
        crossings = _crossings(layers, below)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    layers[:] = best


def _mean_place(box: Box, neighbours: dict[int, list[Box]], place: dict[int, int], own: dict[int, int]) -> float:
    near = neighbours.get(id(box))
    return sum(place[id(n)] for n in near) / len(near) if near else float(own[id(box)])


def _crossings(layers: list[list[Box]], below: dict[int, list[Box]]) -> int:
    total = 0
    for upper, lower in pairwise(layers):
        place = {id(box): n for n, box in enumerate(lower)}
        ends = [place[id(target)] for box in upper for target in _sorted_by_place(below.get(id(box), ()), place)]
        total += sum(1 for i, a in enumerate(ends) for b in ends[i + 1 :] if a > b)
    return total


def _sorted_by_place(boxes: Sequence[Box], place: dict[int, int]) -> list[Box]:
    """Boxes from left to right."""
    return sorted(boxes, key=lambda box: place[id(box)])


def _spread(layers: list[list[Box]], above: dict[int, list[Box]], below: dict[int, list[Box]]) -> None:
    for layer in layers:
        _place(layer, [0.0] * len(layer))
    for sweep in range(_PLACE_SWEEPS):
        # One direction at a time: looking both ways at once would draw straight chains as slants.
        down = sweep % 2 == 0
        neighbours = above if down else below
        for layer in layers if down else reversed(layers):
            wanted = []
            for box in layer:
                near = neighbours.get(id(box))
                wanted.append(sum(n.x for n in near) / len(near) if near else box.x)
            _place(layer, wanted)


def _place(layer: list[Box], wanted: list[float]) -> None:
    """Put boxes as near to where they want to be as their widths allow, keeping their order."""
    rightmost: list[float] = []
    for n, (box, x) in enumerate(zip(layer, wanted, strict=True)):
        rightmost.append(x if n == 0 else max(x, rightmost[-1] + _distance(layer[n - 1], box)))
    leftmost = list(wanted)
    for n in range(len(layer) - 2, -1, -1):
        leftmost[n] = min(wanted[n], leftmost[n + 1] - _distance(layer[n], layer[n + 1]))
    # The middle of two placements that both keep the distances keeps them too, and favours neither side.
    for box, low, high in zip(layer, leftmost, rightmost, strict=True):
        box.x = (low + high) / 2


def _distance(left: Box, right: Box) -> float:
    return (left.width + right.width) / 2 + _GAP_X
