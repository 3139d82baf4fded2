"""What a window of a key holds until a pane takes it: the values, or an accumulator of a combine."""

from __future__ import annotations

from typing import Any

NOTHING: Any = object()
"""What a window holds that has no value: an accumulator may be None."""


class BufferedValues:
    """Holds values as they come."""

    def first(self, value: Any) -> Any:
        """What is held after the first value."""
        return [value]

    def add(self, contents: Any, values: list[Any]) -> Any:
        """What is held after some more, of which the old is used up; `NOTHING` if there was nothing."""
        if contents is NOTHING:
            return values
        contents += values
        return contents

    def merged(self, parts: list[Any]) -> Any:
        """What several windows that became one hold; the parts are used up."""
        return [value for part in parts for value in part]

    def result(self, contents: Any) -> Any:
        """What a pane has; ``held`` is `NOTHING` where there was no value."""
        return [] if contents is NOTHING else contents

    def retained(self, contents: Any) -> Any:
        """What goes on being held while ``held`` is put out."""
        return list(contents)

    def to_list(self, contents: Any) -> list[Any]:
        """What is held, as a list for a snapshot."""
        return [] if contents is NOTHING else contents

    def from_list(self, values: list[Any]) -> Any:
        """What `listed` made the list of."""
        return values or NOTHING


class BufferedAccumulator(BufferedValues):
    """Holds one accumulator, to which each value is added as it comes.

    Args:
        fn: the CombineFn, set up by whoever has the step.
    """

    def __init__(self, fn: Any) -> None:
        self._fn = fn

    def first(self, value: Any) -> Any:
        return self._fn.add_input(self._fn.create_accumulator(), value)

    def add(self, contents: Any, values: list[Any]) -> Any:
        return self._fn.add_inputs(self._fn.create_accumulator() if contents is NOTHING else contents, values)

    def merged(self, parts: list[Any]) -> Any:
        return parts[0] if len(parts) == 1 else self._fn.merge_accumulators(parts)

    def result(self, contents: Any) -> Any:
        return self._fn.extract_output(self._fn.create_accumulator() if contents is NOTHING else contents)

    def retained(self, contents: Any) -> Any:
        # A result may be the accumulator itself, as that of a list is. Merging may change its first part only.
        return self._fn.merge_accumulators([self._fn.create_accumulator(), contents])

    def to_list(self, contents: Any) -> list[Any]:
        return [] if contents is NOTHING else [contents]

    def from_list(self, values: list[Any]) -> Any:
        return values[0] if values else NOTHING
