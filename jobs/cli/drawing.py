"""A step graph as text, as Mermaid and as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sage.jobs.cli.layout import Box, lay_out
from sage.jobs.cli.stepgraph import Edge, Node, StepGraph

__all__ = ["draw_mermaid", "draw_svg", "draw_text"]


def draw_text(graph: StepGraph) -> str:
    """One line for each step in the order of application: its number, its name, what it is and what it reads."""
    numbers = {node.name: n for n, node in enumerate(graph.nodes, start=1)}
    wide = max((len(node.name) for node in graph.nodes), default=0)
    margin = len(str(len(numbers)))
    lines = []
    for node in graph.nodes:
        reads = [_read_text(edge, numbers[edge.source]) for edge in graph.edges if edge.target == node.name]
        arrow = f"  <- {', '.join(reads)}" if reads else ""
        lines.append(f"{numbers[node.name]:>{margin}}  {node.name:<{wide}}  {_caption(node)}{arrow}".rstrip())
    return "\n".join(lines)


def _read_text(edge: Edge, number: int) -> str:
    notes = [note for note in (edge.tag, "side input" if edge.side else "") if note]
    return f"{number} ({', '.join(notes)})" if notes else str(number)


def draw_mermaid(graph: StepGraph) -> str:
    """A Mermaid flowchart, as GitHub and many wikis draw it."""
    ids = {node.name: f"s{n}" for n, node in enumerate(graph.nodes, start=1)}
    lines = ["flowchart TD"]
    for node in graph.nodes:
        small = f"<br/><small>{_mermaid_text(_caption(node))}</small>" if _caption(node) else ""
        lines.append(f'    {ids[node.name]}["{_mermaid_text(node.name)}{small}"]')
    for edge in graph.edges:
        line = "-.->" if edge.side else "-->"
        label = f'|"{_mermaid_text(edge.tag)}"|' if edge.tag else ""
        lines.append(f"    {ids[edge.source]} {line}{label} {ids[edge.target]}")
    return "\n".join(lines)


def _mermaid_text(text: str) -> str:
    return escape(text, quote=False).replace('"', "#quot;")


def _caption(node: Node) -> str:
    """What there is to say about a step beside its name: its windowing, else its transform if the name hides it."""
    return node.windowing or ("" if node.kind in node.name else node.kind)


# Generous, since the reader's fonts are not known: DejaVu, the widest of the usual ones, must fit its box.
_CHAR, _SMALL_CHAR = 8.6, 6.8
_LONGEST = 38
_HEIGHT, _GAP_Y, _MARGIN = 46.0, 40.0, 24.0
_STYLE = """
    text { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; text-anchor: middle }
    .name { font-size: 13px; font-weight: 600; fill: #1f2933 }
    .small { font-size: 11px; fill: #616e7c }
    .box { fill: #f5f7fa; stroke: #9aa5b1; stroke-width: 1.2 }
    .source .box { fill: #e3f8ec; stroke: #3f9142 }
    .sink .box { fill: #e6f1fd; stroke: #2b78c2 }
    .shuffle .box { fill: #fff3d6; stroke: #c99a2e }
    .line { fill: none; stroke: #7b8794; stroke-width: 1.4 }
    .side { stroke-dasharray: 5 4 }
    .tag { font-size: 11px; fill: #52606d }
""".strip("\n")
# Transforms that bring elements of one key together, which is where a job moves data between workers.
_SHUFFLES = (
    "GroupBy",
    "Combine",
    "PerKey",
    "PerElement",
    "Globally",
    "CoGroup",
    "Reshuffle",
    "Distinct",
    "Top",
    "Dedup",
)


def draw_svg(graph: StepGraph) -> str:
    """An SVG picture: green boxes are sources, blue ones ends, yellow ones group by key; dashes are side inputs."""
    widths = {node.name: _box_width(node) for node in graph.nodes}
    pairs = list(dict.fromkeys((edge.source, edge.target) for edge in graph.edges))
    layout = lay_out(widths, pairs)
    width = layout.width + 2 * _MARGIN
    height = layout.layers * (_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _MARGIN
    fed = {target for _, target in pairs}
    read = {source for source, _ in pairs}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        f"  <style>\n{_STYLE}\n  </style>",
        '  <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0.5 L8 4 L0 7.5 Z" fill="#7b8794"/></marker></defs>',
        f'  <rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>',
    ]
    # Lines first, so that boxes cover their ends; tags last, so that no line crosses them.
    tags = []
    for edge in graph.edges:
        route = layout.routes[edge.source, edge.target]
        dashes = " side" if edge.side else ""
        parts.append(f'  <path class="line{dashes}" d="{_curve(route)}" marker-end="url(#arrow)"/>')
        if edge.tag:
            x = (route[0].x + route[1].x) / 2 + _MARGIN
            y = _top(route[0]) + _HEIGHT + _GAP_Y / 2 + 4
            tags.append(_tag_svg(_short(edge.tag), x, y))
    parts.extend(_box_svg(node, layout.boxes[node.name], _role(node, fed, read)) for node in graph.nodes)
    return "\n".join([*parts, *tags, "</svg>"])


def _tag_svg(tag: str, x: float, y: float) -> str:
    width = len(tag) * _SMALL_CHAR + 8
    return (
        f'  <rect x="{x - width / 2:.1f}" y="{y - 12:.1f}" width="{width:.1f}" height="16" rx="3" fill="#fff"/>'
        f'<text class="tag" x="{x:.1f}" y="{y:.1f}">{escape(tag)}</text>'
    )


def _role(node: Node, fed: set[str], read: set[str]) -> str:
    if node.name not in fed:
        return "source"
    if any(word in node.kind for word in _SHUFFLES):
        return "shuffle"
    return "step" if node.name in read else "sink"


def _box_width(node: Node) -> float:
    longest = max(len(_short(node.name)) * _CHAR, len(_short(_caption(node))) * _SMALL_CHAR)
    return max(96.0, longest + 28)


def _box_svg(node: Node, box: Box, role: str) -> str:
    x, top = box.x + _MARGIN, _top(box)
    caption = _caption(node)
    name_y = top + (19 if caption else 28)
    lines = [
        f'  <g class="{role}"><title>{escape(node.name)} ({escape(node.kind)})</title>',
        f'    <rect class="box" x="{x - box.width / 2:.1f}" y="{top:.1f}" width="{box.width:.1f}" '
        f'height="{_HEIGHT:.0f}" rx="8"/>',
        f'    <text class="name" x="{x:.1f}" y="{name_y:.1f}">{escape(_short(node.name))}</text>',
    ]
    if caption:
        lines.append(f'    <text class="small" x="{x:.1f}" y="{top + 36:.1f}">{escape(_short(caption))}</text>')
    return "\n".join([*lines, "  </g>"])


def _curve(route: Sequence[Box]) -> str:
    """A line from the lower side of the first box to the upper side of the last, upright at both ends."""
    x, y = route[0].x + _MARGIN, _top(route[0]) + _HEIGHT
    path = [f"M{x:.1f} {y:.1f}"]
    for box in route[1:]:
        next_x, next_y = box.x + _MARGIN, _top(box)
        middle = (y + next_y) / 2
        path.append(f"C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {next_y:.1f}")
        if box.width == 0:
            next_y += _HEIGHT
            path.append(f"L{next_x:.1f} {next_y:.1f}")
        x, y = next_x, next_y
    return " ".join(path)


def _top(box: Box) -> float:
    return _MARGIN + box.layer * (_HEIGHT + _GAP_Y)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST // 2 - 1] + "…" + text[-_LONGEST // 2 :]
