"""A step graph as text, as Mermaid and as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from sage.jobs.cli.layout import Box, Layout, lay_out
from sage.jobs.cli.stepgraph import Edge, Node, StepGraph

__all__ = ["draw_mermaid", "draw_svg", "draw_text"]


def draw_text(graph: StepGraph) -> str:
    """One line for each step in the order of application: its number, its name, what it is and what it reads.

    Stages have their number in their name, and their steps below them.
    """
    staged = any(node.parts for node in graph.nodes)
    refs = {node.name: node.name if staged else str(n) for n, node in enumerate(graph.nodes, start=1)}
    rows = []
    for node in graph.nodes:
        reads = [_read_text(edge, refs[edge.source]) for edge in graph.edges if edge.target == node.name]
        arrow = f"<- {', '.join(reads)}" if reads else ""
        rows.append(["" if staged else refs[node.name], node.name, _caption(node), arrow])
    wide = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = []
    for node, (number, name, caption, arrow) in zip(graph.nodes, rows, strict=True):
        line = f"{number:>{wide[0]}}  {name:<{wide[1]}}  {caption:<{wide[2]}}  {arrow}".rstrip()
        lines.append(line.lstrip() if staged else line)
        lines.extend(f"    {part}" for part in node.parts)
    return "\n".join(lines)


def _read_text(edge: Edge, source: str) -> str:
    notes = [note for note in (edge.tag, "side input" if edge.side else "") if note]
    return f"{source} ({', '.join(notes)})" if notes else source


def draw_mermaid(graph: StepGraph) -> str:
    """A Mermaid flowchart, as GitHub and many wikis draw it."""
    ids = {node.name: f"s{n}" for n, node in enumerate(graph.nodes, start=1)}
    lines = ["flowchart TD"]
    for node in graph.nodes:
        small = "".join(f"<br/><small>{_mermaid_text(line)}</small>" for line in _small_lines(node))
        lines.append(f'    {ids[node.name]}["{_mermaid_text(node.name)}{small}"]')
    for edge in graph.edges:
        line = "-.->" if edge.side else "-->"
        label = f'|"{_mermaid_text(edge.tag)}"|' if edge.tag else ""
        lines.append(f"    {ids[edge.source]} {line}{label} {ids[edge.target]}")
    return "\n".join(lines)


def _mermaid_text(text: str) -> str:
    return escape(text, quote=False).replace('"', "#quot;")


def _caption(node: Node) -> str:
    """What there is to say about a step beside its name: its note, else its transform if the name hides it."""
    return node.note or ("" if node.parts or node.kind in node.name else node.kind)


def _small_lines(node: Node) -> tuple[str, ...]:
    return (*((_caption(node),) if _caption(node) else ()), *node.parts)


# Generous, since the reader's fonts are not known: DejaVu, the widest of the usual ones, must fit its box.
_CHAR, _SMALL_CHAR = 8.6, 6.8
_LONGEST = 38
_HEIGHT, _LINE, _GAP_Y, _MARGIN = 46.0, 16.0, 40.0, 24.0
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
_SHUFFLES = ("GroupBy", "Combine", "PerKey", "PerElement", "Globally", "Reshuffle", "Distinct", "Top", "Dedup")
_PICTURE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" \
viewBox="0 0 {width:.0f} {height:.0f}" role="img">
  <style>
{style}
  </style>
  <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">\
<path d="M0 0.5 L8 4 L0 7.5 Z" fill="#7b8794"/></marker></defs>
  <rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>
{body}
</svg>"""


def draw_svg(graph: StepGraph) -> str:
    """An SVG picture: green boxes are sources, blue ones ends, yellow ones group by key; dashes are side inputs."""
    pairs = list(dict.fromkeys((edge.source, edge.target) for edge in graph.edges))
    layout = lay_out({node.name: _box_width(node) for node in graph.nodes}, pairs)
    heights = {node.name: _box_height(node) for node in graph.nodes}
    rows = _Rows.of(layout, heights)
    fed = {target for _, target in pairs}
    read = {source for source, _ in pairs}
    # Lines first, so that boxes cover their ends; tags last, so that no line crosses them.
    body, tags = [], []
    for edge in graph.edges:
        route = layout.routes[edge.source, edge.target]
        start = rows.top(route[0]) + heights[edge.source]
        dashes = " side" if edge.side else ""
        body.append(f'  <path class="line{dashes}" d="{_curve(route, start, rows)}" marker-end="url(#arrow)"/>')
        if edge.tag:
            x = (route[0].x + route[1].x) / 2 + _MARGIN
            tags.append(_tag_svg(_short(edge.tag), x, (start + rows.top(route[1])) / 2 + 4))
    for node in graph.nodes:
        box = layout.boxes[node.name]
        body.append(_box_svg(node, box, rows.top(box), _role(node, fed, read)))
    return _PICTURE.format(
        width=layout.width + 2 * _MARGIN, height=rows.bottom, style=_STYLE, body="\n".join([*body, *tags])
    )


@dataclass(frozen=True)
class _Rows:
    """Where each layer begins, and how high its highest box is (px)."""

    tops: list[float]
    heights: list[float]

    @classmethod
    def of(cls, layout: Layout, box_heights: Mapping[str, float]) -> _Rows:
        heights = [_HEIGHT] * layout.layers
        for name, box in layout.boxes.items():
            heights[box.layer] = max(heights[box.layer], box_heights[name])
        tops = [_MARGIN + sum(heights[:layer]) + layer * _GAP_Y for layer in range(layout.layers)]
        return cls(tops, heights)

    @property
    def bottom(self) -> float:
        """The height of the whole picture."""
        return (self.tops[-1] + self.heights[-1] if self.tops else _MARGIN) + _MARGIN

    def top(self, box: Box) -> float:
        return self.tops[box.layer]

    def height(self, box: Box) -> float:
        return self.heights[box.layer]


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
    small = max((len(_short(line)) for line in _small_lines(node)), default=0)
    return max(96.0, len(_short(node.name)) * _CHAR + 28, small * _SMALL_CHAR + 28)


def _box_height(node: Node) -> float:
    return _HEIGHT + _LINE * max(0, len(_small_lines(node)) - 1)


def _box_svg(node: Node, box: Box, top: float, role: str) -> str:
    x = box.x + _MARGIN
    small = _small_lines(node)
    name_y = top + (19 if small else 28)
    about = f"{node.name} ({node.kind})" if node.kind else node.name
    lines = [
        f'  <g class="{role}"><title>{escape(about)}</title>',
        f'    <rect class="box" x="{x - box.width / 2:.1f}" y="{top:.1f}" width="{box.width:.1f}" '
        f'height="{_box_height(node):.0f}" rx="8"/>',
        f'    <text class="name" x="{x:.1f}" y="{name_y:.1f}">{escape(_short(node.name))}</text>',
    ]
    for n, line in enumerate(small):
        y = top + 36 + n * _LINE
        lines.append(f'    <text class="small" x="{x:.1f}" y="{y:.1f}">{escape(_short(line))}</text>')
    return "\n".join([*lines, "  </g>"])


def _curve(route: Sequence[Box], y: float, rows: _Rows) -> str:
    """A line from ``y``, the lower side of the first box, to the upper side of the last, upright at both ends."""
    x = route[0].x + _MARGIN
    path = [f"M{x:.1f} {y:.1f}"]
    for box in route[1:]:
        next_x, next_y = box.x + _MARGIN, rows.top(box)
        middle = (y + next_y) / 2
        path.append(f"C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {next_y:.1f}")
        if box.width == 0:
            next_y += rows.height(box)
            path.append(f"L{next_x:.1f} {next_y:.1f}")
        x, y = next_x, next_y
    return " ".join(path)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST // 2 - 1] + "…" + text[-_LONGEST // 2 :]
