"""What user functions give: ordinary elements, or values with a tag, a timestamp or windows about them."""

from __future__ import annotations

from typing import Any

from sage.runners.engine.compiled.recognise import is_ordinary

BAD_RESULTS = frozenset({str, bytes, dict})


class Ordinary(set):  # type: ignore[type-arg]
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


def refuse(results: Any) -> None:
    """Raises what Beam raises for a DoFn that returns a ``str``, ``bytes`` or ``dict``."""
    kind = type(results).__name__
    raise TypeError(
        f"Returning a {kind} from a ParDo or FlatMap is not allowed. "
        f"Please use list({results!r}) if you really want this behavior."
    )


def pair_of(value: Any) -> tuple[Any, Any]:
    """The key and value of an element of a keyed step.

    Raises:
        ValueError: the element is not a pair.
    """
    try:
        key, rest = value
    except (TypeError, ValueError):
        raise ValueError(
            f"Input value to a stateful DoFn or KeyParam must be a KV tuple; instead, got '{value}'."
        ) from None
    return key, rest
