"""What `sage graph` draws: nodes in order, and the edges between them."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Edge", "Node", "StepGraph"]


@dataclass(frozen=True)
class Node:
    """One step, or one stage that a runner makes of several.

    Attributes:
        name: the full name of the step, or the stage's number.
        kind: the class of its transform, as ``ParDo`` or ``CombinePerKey``.
        note: what else there is to say: the windowing that a step assigns, how elements reach a stage.
        parts: the steps of a stage, in the order in which an element passes them.
    """

    name: str
    kind: str
    note: str = ""
    parts: tuple[str, ...] = ()


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
