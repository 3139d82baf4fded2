"""What a compiled step gets for a parameter that stands for something of the element's or the timer's own."""

from __future__ import annotations

from typing import Any

from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.codegen.keyed import Whose
from sage.runners.engine.codegen.recognise import PlainCall, Special
from sage.runners.engine.codegen.scope import Here
from sage.runners.engine.codegen.source_writer import Writer


def write_specials(w: Writer, op: Any, call: PlainCall, here: Here, whose: Whose) -> dict[Special, str]:
    """The sources of what the parameters of a call stand for, state and timers apart."""
    own = {
        Special.TIMESTAMP: here.stamp,
        Special.WINDOW: whose.window,
        Special.PANE: here.pane,
        Special.KEY: whose.key,
        Special.TAG: f"{here.value}.tag",
        Special.ELEMENT: here.value,
    }
    if Special.WINDOWED in call.specials.values():
        # The windows are a list, as Beam's window assignment leaves them.
        make = w.bind("make", WindowedValue)
        own[Special.WINDOWED] = f"{make}({here.value}, {here.stamp}, [*{here.windows}], {here.pane})"
    if Special.FINALIZER in call.specials.values():
        own[Special.FINALIZER] = finalizer = w.fresh("end")
        w.start(f"{finalizer} = {w.bind('op', op)}.runner.bundle_finalizer_param")
    return own
