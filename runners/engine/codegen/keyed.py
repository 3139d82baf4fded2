"""What a compiled keyed step gets beside its elements: the key, state and timers. And how timers call it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import GlobalWindows

from sage.runners.engine.codegen.outputs import no_pair
from sage.runners.engine.codegen.recognise import StateArg
from sage.runners.engine.codegen.scope import ElementScope
from sage.runners.engine.codegen.source_writer import SourceWriter
from sage.runners.engine.core.blocks import timestamp_of

_THE_ONE = "windows[0]"  # the source of the window of all elements of a call


def write_key(w: SourceWriter, op: Any, scope: ElementScope) -> str:
    """Takes the key out of the element; gives its name."""
    key = w.fresh("k")
    with w.block("try:"):
        w.line(f"{key}, {w.fresh('x')} = {scope.value}", op.step.name)
    with w.block("except (TypeError, ValueError):"):
        w.line(f"{w.bind('no_pair', no_pair)}({scope.value})", op.step.name)
    return key


@dataclass(frozen=True)
class KeyScope:
    """The sources of the key and of the window that state and timers belong to.

    ``again`` says that what comes next is likely to belong to the same.
    """

    key: str
    window: str
    again: bool = True


def write_states(
    w: SourceWriter, op: Any, states: Mapping[str, StateArg], key_scope: KeyScope, scope: ElementScope, micros: str
) -> dict[str, str]:
    """State and timer handles, looked up anew when the key or the window is another object than before.

    A timer has one handle, which is told of the key at hand, and of the element if it makes a difference to it.

    Args:
        w: writes the source.
        op: the step.
        states: state and timer parameters by name.
        whose: whose they are.
        here: the element.
        micros: the source of its timestamp in microseconds.

    Returns:
        The sources of the arguments, by name.
    """
    names = {name: w.fresh("s") for name in states}
    timers = {names[name]: what.spec for name, what in states.items() if what.timer}
    for handle, spec in timers.items():
        w.start(f"{handle} = {w.bind('timer', op.user_state.timer)}({w.bind('spec', spec)})")
        if not scope.panes_vary:
            w.start(f"{handle}.pane = {scope.pane}")
    if key_scope.again:
        same = {w.fresh("last"): now for now in (key_scope.key, key_scope.window) if now != _THE_ONE}
        w.start(" = ".join(same) + f" = {w.bind('none', object())}")
        with w.block("if " + " or ".join(f"{now} is not {last}" for last, now in same.items()) + ":"):
            for last, now in same.items():
                w.line(f"{last} = {now}")
            _look_up(w, op, states, names, key_scope)
    else:
        _look_up(w, op, states, names, key_scope)
    for handle, spec in timers.items():
        if scope.panes_vary:
            w.line(f"{handle}.pane = {scope.pane}")
        if not TimeDomain.is_event_time(spec.time_domain):
            w.line(f"{handle}.micros = {micros}")
    return names


def _look_up(
    w: SourceWriter, op: Any, states: Mapping[str, StateArg], names: Mapping[str, str], key_scope: KeyScope
) -> None:
    state, key, one = op.user_state, key_scope.key, key_scope.window
    near = one == _THE_ONE and not all(what.timer for what in states.values())
    if near:
        plain, last, kind = w.fresh("plain"), w.fresh("c"), f"{w.bind('type', type)}({key})"
        w.start(f"{last} = None")
        known = f"{kind} in {w.bind('direct', state.direct)} and ({last} := {kind}) is not None"
        w.line(f"{plain} = {kind} is {last} or {known}")
    for name, what in states.items():
        handle, column = names[name], w.fresh("cells")
        if what.timer:
            w.line(f"{handle}.key, {handle}.window = {key}, {one}")
            continue
        get = f"{handle} = {w.bind('get', state.get_state)}({w.bind('spec', what.spec)}, {key}, {one})"
        if not near:
            w.line(get, op.step.name)
            continue
        w.start(f"{column} = {w.bind('column', state.column)}({w.bind('name', what.spec.name)}, {one})")
        w.line(f"{handle} = {column}.get({key}) if {plain} else None")
        with w.block(f"if {handle} is None or not {handle}.touched:"):
            w.line(get, op.step.name)


def write_timer(w: SourceWriter, op: Any) -> tuple[ElementScope, KeyScope]:
    """Where a timer ``v`` is that is due, and whose it is; what its callback gives has the time at which it fires.

    All are in one window if the step's elements are, which are then in the global window.
    """
    windows, one_for_all = "windows", type(op.step.dofn.windowing.windowfn) is GlobalWindows
    if not one_for_all:
        windows = w.fresh("w")
        w.line(f"{windows} = (v.window,)")
    stamp = f"{w.bind('when', timestamp_of)}(v.fire)"
    scope = ElementScope("v", stamp, windows, "panes", "", True, not one_for_all, False, True, micros="v.fire")
    return scope, KeyScope("v.key", f"{windows}[0]", again=False)
