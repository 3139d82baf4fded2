"""What user functions give: ordinary elements, or values with a tag, a timestamp or windows about them."""

from __future__ import annotations

from typing import Any, NoReturn

from sage.runners.engine.codegen.recognise import is_ordinary
from sage.runners.engine.codegen.source_writer import SourceWriter

BAD_RESULTS = frozenset({str, bytes, dict})


class PlainClasses(set):  # type: ignore[type-arg]
    """The classes of plain elements that one place of the code has met.

    ``last`` is the class met last for the first time: most places meet one class, and comparing with it costs
    half of looking into a set.
    """

    last: type | None = None

    def learn(self, value: Any) -> type | None:
        """The class of a value, remembered, if the value is an ordinary element; else None."""
        cls = type(value)
        if not is_ordinary(cls):
            return None
        self.add(cls)
        self.last = cls
        return cls


def result_type(results: Any) -> type:
    """The class of what a DoFn returned.

    Raises:
        TypeError: it is one that Beam refuses: a ``str``, ``bytes`` or ``dict``.
    """
    kind = type(results)
    if kind in BAD_RESULTS:
        raise TypeError(
            f"Returning a {kind.__name__} from a ParDo or FlatMap is not allowed. "
            f"Please use list({results!r}) if you really want this behavior."
        )
    return kind


def write_whole(w: SourceWriter, results: str, checked: bool, step: str) -> str:
    """The iterator over what a call of a step gave, with a look at its class if that is to be ``checked``; its name."""
    if checked:
        last = w.fresh("c")
        w.start(f"{last} = None")
        with w.block(f"if {w.bind('type', type)}({results}) is not {last}:"):
            w.line(f"{last} = {w.bind('known', result_type)}({results})", step)
    whole = w.fresh("r")
    w.line(f"{whole} = {w.bind('iter', iter)}({results})", step)
    return whole


def no_pair(value: Any) -> NoReturn:
    """Raises what Beam raises for an element of a keyed step that is not a pair."""
    raise ValueError(
        f"Input value to a stateful DoFn or KeyParam must be a KV tuple; instead, got '{value}'."
    ) from None
