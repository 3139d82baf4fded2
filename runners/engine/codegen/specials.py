"""What a compiled step gets for a parameter that stands for something of the element's or the timer's own."""

from __future__ import annotations

from typing import Any

from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.codegen.keyed import KeyScope
from sage.runners.engine.codegen.recognise import PlainCall, Special
from sage.runners.engine.codegen.scope import ElementScope
from sage.runners.engine.codegen.source_writer import SourceWriter


def write_specials(
    w: SourceWriter, op: Any, call: PlainCall, scope: ElementScope, key_scope: KeyScope
) -> dict[Special, str]:
    """The sources of what the parameters of a call stand for, state and timers apart."""
    own = {
        Special.TIMESTAMP: scope.stamp,
        Special.WINDOW: key_scope.window,
        Special.PANE: scope.pane,
        Special.KEY: key_scope.key,
        Special.TAG: f"{scope.value}.tag",
        Special.ELEMENT: scope.value,
    }
    if Special.WINDOWED in call.specials.values():
        # The windows are a list, as Beam's window assignment leaves them.
        make = w.bind("make", WindowedValue)
        own[Special.WINDOWED] = f"{make}({scope.value}, {scope.stamp}, [*{scope.windows}], {scope.pane})"
    if Special.FINALIZER in call.specials.values():
        own[Special.FINALIZER] = finalizer = w.fresh("end")
        w.start(f"{finalizer} = {w.bind('op', op)}.runner.bundle_finalizer_param")
    return own
