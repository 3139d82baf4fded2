"""Type hints checked while a job runs, on a sample of what a step gives, where the user's options ask for it."""

from __future__ import annotations

import sys
from typing import Any

from apache_beam.runners.common import Receiver
from apache_beam.typehints.decorators import TypeCheckError, _check_instance_type
from apache_beam.utils.windowed_value import WindowedValue

ALL_OF = 10


def constraints_of(fn: Any) -> dict[str, tuple[str | None, Any]]:
    """What Beam wrote into a DoFn: by the name of a step, a parameter and the type that its argument must have.

    Empty unless the pipeline was made with ``--performance_runtime_type_check``.
    """
    found: dict[str, tuple[str | None, Any]] = getattr(fn, "_runtime_output_constraints", {})
    return found


class CheckedOutput(Receiver):
    """Checks outputs of a step before it hands them on: the first few, then ever fewer, as Beam does it."""

    def __init__(self, output: Any, constraints: dict[str, tuple[str | None, Any]]) -> None:
        self.output = output
        self._constraints = constraints
        self._seen = 0
        self._next = 0

    def receive(self, windowed_value: WindowedValue) -> None:
        if self._seen >= self._next:
            self._check(windowed_value.value)
            self._next = self._seen + max(1, self._seen // ALL_OF)
        self._seen += 1
        self.output.receive(windowed_value)

    def receive_batch(self, windowed_batch: Any) -> None:
        self.output.receive_batch(windowed_batch)

    def _check(self, value: Any) -> None:
        for label, (parameter, constraint) in self._constraints.items():
            try:
                _check_instance_type(constraint, value, parameter, verbose=True)
            except TypeCheckError as error:
                step = label if label.startswith("ParDo") else f"ParDo({label})"
                message = f"Runtime type violation detected within {step}: {error}"
                raise TypeCheckError(message).with_traceback(sys.exc_info()[2]) from None
