"""What roots have in common that keep what was gathered until a pane takes it."""

from __future__ import annotations

from typing import Any

from sage.runners.engine.core.keys import KeyIds, key_coder, value_coder
from sage.runners.engine.core.spec import CombinePerKey, Step
from sage.runners.engine.operators.base.context import TaskContext
from sage.runners.engine.operators.base.failures import naming
from sage.runners.engine.operators.base.late import LateRecords
from sage.runners.engine.operators.base.operator import Output
from sage.runners.engine.operators.base.root import Root
from sage.runners.engine.operators.grouping.pane_contents import BufferedAccumulator, BufferedValues


class PaneRoot(Root):
    """Groups values by key and window, and combines those of a pane if the step does."""

    late: LateRecords

    def __init__(self, step: Step, output: Output, context: TaskContext) -> None:
        self.step = step
        self.late = LateRecords(step.name, context)
        self._context = context
        self._output = output
        self._source = context.collections[step.inputs[0]]
        self._bounded = self._source.bounded
        self._ids = KeyIds(key_coder(self._source.coder))
        self._combine: Any = step.combine_fn if isinstance(step, CombinePerKey) else None
        self._contents = BufferedValues() if self._combine is None else BufferedAccumulator(self._combine)

    @property
    def _contents_coder(self) -> Any:
        """The coder of what is held."""
        return value_coder(self._source.coder) if self._combine is None else self._combine.get_accumulator_coder()

    def open(self) -> None:
        if self._combine is not None:
            with naming(self.step.name, self._context):
                self._combine.setup()

    def close(self) -> None:
        if self._combine is not None:
            with naming(self.step.name, self._context):
                self._combine.teardown()
