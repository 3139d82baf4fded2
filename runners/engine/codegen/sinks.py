"""Where compiled chains end: at the edge of the stage, or in a table of accumulators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apache_beam.transforms import combiners

from sage.runners.engine.codegen.scope import ElementScope
from sage.runners.engine.codegen.source_writer import SourceWriter
from sage.runners.engine.core.blocks import TimestampColumn
from sage.runners.engine.operators.base.stage_output import StageOutput
from sage.runners.engine.operators.grouping.combine import WRAPPERS, PreCombineOp

_MISSING = object()
BULK = 128
"""How many elements, or up to twice as many, a step is given that takes lists."""


def write_edge(w: SourceWriter, op: StageOutput, scope: ElementScope) -> None:
    """Appends the value to the block that leaves the stage, with what varies beside it."""
    columns = [("b", scope.value, True), ("bt", scope.micros or scope.stamp, scope.stamps_vary),
               ("bw", scope.windows, scope.windows_vary), ("bp", scope.pane, scope.panes_vary)]  # fmt: skip
    lists = {prefix: w.fresh(prefix) for prefix, _, varies in columns if varies}
    limit, room, take = w.fresh("n"), w.bind("room", op.capacity), w.bind("take", op.append)
    w.start(f"{limit} = {room}()")
    for name in lists.values():
        w.start(f"{name} = []")
    for prefix, source, varies in columns:
        if varies:
            w.line(f"{lists[prefix]}.append({source})")
    sources = {prefix: lists.get(prefix, source) for prefix, source, _ in columns}
    if scope.micros:
        sources["bt"] = f"{w.bind('stamps', TimestampColumn)}({sources['bt']})"
    send = f"{take}({', '.join(sources.values())})"
    with w.block(f"if len({lists['b']}) >= {limit}:"):
        w.line(send)
        for name in lists.values():
            w.line(f"{name} = []")
        w.line(f"{limit} = {room}()")
    w.end(f"if {lists['b']}: {send}")


def write_bulk(w: SourceWriter, take: Callable[[list[Any]], None], value: str, name: str) -> None:
    """Puts the value aside for a step that takes lists."""
    rows = w.fresh("b")
    send = f"{w.bind('take', take)}({rows})"
    w.start(f"{rows} = []")
    w.line(f"{rows}.append({value})")
    with w.block(f"if len({rows}) >= {BULK}:"):
        w.line(send, name)
        w.line(f"{rows} = []")
    w.end(f"if {rows}: {send}", name)


def write_combine(w: SourceWriter, op: PreCombineOp, scope: ElementScope) -> None:
    """Adds the value to its key's accumulator, in the table of its windows, or of each of them."""
    table, find, last = w.fresh("table"), w.bind("tables", op.table), w.fresh("last")
    if not scope.single and not op.shares:
        one, tables = w.fresh("o"), w.fresh("tables")
        w.start(f"{last} = None")
        with w.block(f"if {scope.windows} is not {last}:"):
            w.line(f"{last} = {scope.windows}")
            w.line(f"{tables} = [{find}(({one},)) for {one} in {last}]")
        with w.block(f"for {table} in {tables}:"):
            _gather(w, op, scope, table)
    elif scope.windows_vary:
        w.start(f"{last} = {table} = None")
        with w.block(f"if {scope.windows} is not {last}:"):
            w.line(f"{last} = {scope.windows}")
            w.line(f"{table} = {find}({last})")
        _gather(w, op, scope, table)
    else:
        w.start(f"{table} = {find}({scope.windows})")
        _gather(w, op, scope, table)


def _gather(w: SourceWriter, op: PreCombineOp, scope: ElementScope, table: str) -> None:
    name, fn = op.step.name, op.fn
    key, x, found = w.fresh("k"), w.fresh("x"), w.fresh("a")
    w.line(f"{key}, {x} = {scope.value}", name)
    kind, last = w.bind("type", type), w.fresh("c")
    w.start(f"{last} = None")
    with w.block(f"if {kind}({key}) is not {last}:"):
        with w.block(f"if {kind}({key}) in {w.bind('direct', op.ids.direct)}:"):
            w.line(f"{last} = {kind}({key})")
        with w.block("else:"):
            w.line(f"{key} = {w.bind('identify', op.identify)}({key})", name)
    if type(fn) in WRAPPERS:
        _append(w, op, scope, table, key, x)
        return
    if type(fn) is combiners.CountCombineFn:
        first, absent = "1", "None"
    else:
        create, add = w.bind("create", fn.create_accumulator), w.bind("add", fn.add_input)
        first, absent = f"{add}({create}(), {x})", w.bind("missing", _MISSING)
    w.line(f"{found} = {table}.get({key})" if absent == "None" else f"{found} = {table}.get({key}, {absent})")
    with w.block(f"if {found} is {absent}:"):
        w.line(f"{table}[{key}] = {first}", name)
        with w.block(f"if len({table}) >= {w.bind('most', op.MAX_KEYS)}:"):
            w.line(f"{w.bind('send', op.send)}()", name)
    with w.block("else:"):
        if type(fn) is combiners.CountCombineFn:
            w.line(f"{table}[{key}] = {found} + 1")
        else:
            w.line(f"{table}[{key}] = {add}({found}, {x})", name)


def _append(w: SourceWriter, op: PreCombineOp, scope: ElementScope, table: str, key: str, x: str) -> None:
    """Appends to the list of values that is the accumulator of a plain function.

    The function is called on the lists when there are many values in all of them together: a look at the count that is
    kept anyway costs less than one at the length of each list.
    """
    gathers = w.bind("op", op)
    counted = "len(" not in scope.count  # else it is the same from the first element of the call to the last
    limit = w.fresh("most")
    w.start(f"{limit} = {gathers}.allowance")
    with w.block("try:"):
        w.line(f"{table}[{key}].append({x})")
    with w.block("except KeyError:"):
        w.line(f"{table}[{key}] = [{x}]")
        if counted:
            with w.block(f"if len({table}) >= {w.bind('most', op.MAX_KEYS)}:"):
                w.line(f"{limit} = 0")
    if counted:
        with w.block(f"if {scope.count} >= {limit}:"):
            w.line(f"{limit} = {scope.count} + {gathers}.settle()", op.step.name)
    w.end(f"{gathers}.allowance = {limit} - {scope.count}")
    if not counted:
        w.end(f"if {gathers}.allowance <= 0: {gathers}.allowance = {gathers}.settle()", op.step.name)
