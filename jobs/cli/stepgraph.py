"""The graph of a pipeline as its author wrote it: composites folded, one node for each step they applied."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Edge", "Node", "StepGraph"]


@dataclass(frozen=True)
class Node:
    """One step.

    Attributes:
        name: its full name.
        kind: the class of its transform, as ``ParDo`` or ``CombinePerKey``.
        windowing: the windowing it assigns, in words; empty for a step that assigns none.
    """

    name: str
    kind: str
    windowing: str = ""


@dataclass(frozen=True)
class Edge:
    """A collection that one step puts out and another takes in.

    Attributes:
        source: the name of the step that puts it out.
        target: the name of the step that takes it in.
        tag: the output's tag, where the source has several.
        side: whether it is a side input.
    """

    source: str
    target: str
    tag: str = ""
    side: bool = False


@dataclass
class StepGraph:
    """Nodes in the order of application (so every edge goes forward), and the edges between them."""

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
