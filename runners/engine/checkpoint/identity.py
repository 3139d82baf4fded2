"""Which state of a checkpoint belongs to which stage of a pipeline, and whether the pipeline can go on with it.

State belongs to a step by the step's path, as the user named it. Line numbers in a path count for nothing: a step that
was given no name is called ``Map(<lambda at job.py:12>)``, and would lose its state to a line added above it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam import coders
from apache_beam.transforms.userstate import get_dofn_specs

from sage.runners.engine.core import spec
from sage.runners.engine.core.key_groups import KEY_GROUPS
from sage.runners.engine.core.keys import key_coder, value_coder
from sage.transactions import TransactionalDoFn

KEY_HASH = "crc32 of the canonical key, 1"
"""Names the way from a key to its key group: another way has another name."""

_LINE = re.compile(r"(<[^<>]* at [^<>]*?):\d+>")
_GENERAL = "FastPrimitivesCoder"
_FORMS = frozenset({_GENERAL, type(coders.FastPrimitivesCoder().as_deterministic_coder("")).__name__})


def step_id(name: str) -> str:
    """The name of a step's state, by the step's full name."""
    return _LINE.sub(r"\1>", name)


def stage_ids(plan: spec.Plan) -> dict[int, str]:
    """The name of each stage's state, by stage: that of its root; where two are alike they are numbered in order."""
    found: dict[int, str] = {}
    count: dict[str, int] = {}
    for stage in plan.stages:
        name = step_id(stage.root.name)
        count[name] = count.get(name, 0) + 1
        found[stage.index] = name if count[name] == 1 else f"{name}#{count[name]}"
    return found


def describe(plan: spec.Plan) -> dict[str, Any]:
    """What a checkpoint tells of the plan it was taken of: plain values, as JSON has them."""
    ids = stage_ids(plan)
    return {
        "beam": beam.__version__,
        "python": ".".join(map(str, sys.version_info[:2])),
        "key_hash": KEY_HASH,
        "key_groups": KEY_GROUPS,
        "stages": {
            ids[stage.index]: described for stage in plan.stages if (described := _stage(stage, plan)) is not None
        },
        "sinks": sorted({step_id(step.name) for stage in plan.stages for step in stage.steps if _is_sink(step)}),
    }


def compatible(saved: Mapping[str, Any], now: Mapping[str, Any], allow_dropped_state: bool = False) -> list[str]:
    """What stands in the way of going on from a checkpoint, one line for each step; empty if nothing does.

    Args:
        saved: what `describe` told of the plan that the checkpoint was taken of.
        now: what it tells of the plan that is to go on.
        allow_dropped_state: whether state of steps that are gone may be left behind.
    """
    if not saved:
        return ["the checkpoint does not tell which steps its state is of"]
    found = [
        f"the checkpoint has {what} {saved[name]!r}, this version of SAGE has {now[name]!r}: use the version it was "
        "taken with"
        for name, what in (("key_hash", "keys hashed by"), ("key_groups", "a number of key groups of"))
        if saved[name] != now[name]
    ]
    for step, before in sorted(saved["stages"].items()):
        after = now["stages"].get(step)
        if after is not None:
            found += [f"step '{step}': {difference}" for difference in _differences(before, after)]
        elif not allow_dropped_state:
            found.append(_gone(step, "its state", now))
    if not allow_dropped_state:
        found += [_gone(sink, "what it has prepared", now) for sink in saved["sinks"] if sink not in now["sinks"]]
    return found


def unnamed(plan: spec.Plan) -> list[str]:
    """Steps with state whose names Beam made up: another version of Beam, or another function, may name them anew."""
    names = [stage.root.name for stage in plan.stages if _stage(stage, plan) is not None]
    names += [step.name for stage in plan.stages for step in stage.steps if _is_sink(step)]
    return [name for name in dict.fromkeys(names) if _is_made_up(name)]


def _is_made_up(name: str) -> bool:
    """Whether the part of a step's name that its user could have given is Beam's default.

    It has a lambda's place in it, or it is a transform of Beam's with what it was made with.
    """
    first, arguments, _ = name.partition("/")[0].partition("(")
    return "<lambda at " in name or (bool(arguments) and hasattr(beam, first))


def _gone(step: str, what: str, now: Mapping[str, Any]) -> str:
    new = sorted(set(now["stages"]) | set(now["sinks"]))
    there = f" (there are {', '.join(repr(name) for name in new)})" if new else ""
    return (
        f"step '{step}' is gone{there}: give its step this name again, or leave {what} behind with "
        "--allow_dropped_state"
    )


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if before["kind"] != after["kind"]:
        yield f"it was a {before['kind']} and is a {after['kind']} now: give the new step another name"
        return
    for what, label in (("key", "key coder"), ("windowing", "windowing")):
        if before[what] != after[what]:
            yield f"its {label} was {before[what]} and is {after[what]} now: go back to that, or rename the step"
    for name, form in sorted(before["cells"].items()):
        new = after["cells"].get(name)
        if new is None:
            others = ", ".join(sorted(set(after["cells"]) - set(before["cells"])))
            new_ones = f" (new are: {others})" if others else ""
            yield f"it declares {name} no more{new_ones}: give that its name again, or give the step another name"
        elif new != form:
            yield f"{name} was a {form} and is a {new} now: go back to that, or give what is new another name"


# What is told of a stage.


def _is_sink(step: spec.Step) -> bool:
    return isinstance(step, spec.ParDo) and isinstance(step.dofn.fn, TransactionalDoFn)


_HOLDING: Mapping[type, str] = {
    spec.GroupByKey: "group by key",
    spec.CombinePerKey: "combine",
    spec.MergeCombine: "combine",
}


def _stage(stage: spec.Stage, plan: spec.Plan) -> dict[str, Any] | None:
    """What is told of a stage; None of one that holds nothing which a change of the pipeline could make unfit."""
    root = stage.root
    if isinstance(root, spec.ParDo) and root.splittable:
        return {"kind": "splittable pardo", "key": "", "windowing": "", "cells": {}}
    if isinstance(root, spec.ParDo) and root.stateful:
        kind, cells = "stateful pardo", dict(_cells(root.dofn.fn))
    elif type(root) in _HOLDING:
        kind, cells = _HOLDING[type(root)], dict(_grouped(root, plan))
    else:
        return None
    collection = plan.collections[root.inputs[0]]
    key = coder_form(key_coder(collection.coder))
    return {"kind": kind, "key": key, "windowing": _windowing(collection.windowing), "cells": cells}


def _grouped(root: spec.Step, plan: spec.Plan) -> Iterator[tuple[str, str]]:
    """What a grouping keeps for each key."""
    if isinstance(root, spec.GroupByKey):
        yield "the values", f"list of {coder_form(value_coder(plan.collections[root.inputs[0]].coder))}"
    else:
        fn = root.combine_fn  # type: ignore[attr-defined]
        wrapped = getattr(fn, "_fn", None)
        yield "the accumulator", f"result of {getattr(wrapped, '__name__', type(fn).__name__)}"


def _cells(fn: Any) -> Iterator[tuple[str, str]]:
    """The state cells and timers of a DoFn, by name, each with its form."""
    states, timers = get_dofn_specs(fn)
    for state in states:
        coder = getattr(state, "coder", None)
        form = type(state).__name__.removesuffix("Spec")
        yield f"state '{state.name}'", form if coder is None else f"{form} of {coder_form(coder)}"
    for timer in timers:
        yield f"timer '{timer.name}'", f"Timer in {timer.time_domain}"


def coder_form(coder: Any) -> str:
    """A coder as text that is the same in every process and version: its class and those of its parts."""
    name = type(coder).__name__
    if name in _FORMS:
        return _GENERAL
    listed = ", ".join(map(coder_form, _parts(coder)))
    return f"{name}[{listed}]" if listed else name


def _parts(coder: Any) -> Iterator[Any]:
    for value in vars(coder).values():
        several = value if isinstance(value, tuple | list) else (value,)
        yield from (part for part in several if isinstance(part, coders.Coder))


def _windowing(windowing: Any) -> str:
    fn = windowing.windowfn
    described = ", ".join(f"{name}={value}" for name, value in sorted(vars(fn).items()) if not name.startswith("_"))
    trigger = f" with {windowing.triggerfn}" if type(windowing.triggerfn).__name__ != "DefaultTrigger" else ""
    return f"{type(fn).__name__}({described}){trigger}"
