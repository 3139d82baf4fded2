"""The one JSON document that `sage run --json` prints when all is over."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sage.handle import JobHandle, JobState
from sage.jobs.cli.failure import Failure
from sage.jobs.cli.progress import merge_steps

__all__ = ["document", "stdout_kept_clean"]


def document(
    handles: Sequence[JobHandle], failure: Failure | None, *, exit_code: int, runner: str, wall_ms: float
) -> dict[str, Any]:
    """Everything about a finished run, as values that JSON knows.

    Args:
        handles: the jobs that started, in order.
        failure: why the run failed, if it did.
        exit_code: what the command ends with.
        runner: the runner that pipelines got which named none.
        wall_ms: from the start of the job's code to the end of its last job (ms).
    """
    return {
        "state": _overall_state(handles, failure, exit_code),
        "exit_code": exit_code,
        "runner": runner,
        "wall_ms": round(wall_ms, 1),
        "jobs": [_job(handle, exit_code == 130) for handle in handles],
        "error": failure.as_json() if failure is not None else None,
    }


def _overall_state(handles: Sequence[JobHandle], failure: Failure | None, exit_code: int) -> str:
    if exit_code == 0:
        return JobState.DONE.value
    if exit_code == 130 or (failure is None and any(h.state == JobState.CANCELLED for h in handles)):
        return JobState.CANCELLED.value
    return JobState.FAILED.value


def _job(handle: JobHandle, over: bool) -> dict[str, Any]:
    paths = handle.paths()
    reasons: dict[str, str] = getattr(handle, "reasons", dict)()
    steps = [
        {
            "name": step.name,
            "elements_in": step.elements_in,
            "elements_out": step.elements_out,
            "busy_ms": round(step.busy_ms, 1),
            "state": step.state,
            "path": paths.get(step.name),
            "late_dropped": step.late_dropped,
            "reason": reasons.get(step.name),
        }
        for step in merge_steps(handle.progress())
    ]
    return {
        "name": handle.name,
        # A job whose process ends before it does is over all the same.
        "state": str(handle.state) if JobState(str(handle.state)).terminal or not over else JobState.CANCELLED.value,
        "stopped_at": getattr(handle, "stopped_at", None),
        "steps": steps,
        "metrics": _metrics(handle),
    }


def _metrics(handle: JobHandle) -> dict[str, list[dict[str, Any]]]:
    """The user's metrics by kind (``counters``, ``distributions``, ``gauges``, ...), as Beam's query names them."""
    found: dict[str, list[Any]] = handle.metrics().query()
    return {
        kind: [
            {
                "step": result.key.step,
                "namespace": result.key.metric.namespace,
                "name": result.key.metric.name,
                "value": _metric_value(result.result),
            }
            for result in results
        ]
        for kind, results in found.items()
    }


def _metric_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, set | frozenset):
        return sorted(str(item) for item in value)
    fields = ("count", "sum", "min", "max", "mean") if hasattr(value, "count") else ("value", "timestamp")
    if all(hasattr(value, field) for field in fields):
        return {field: getattr(value, field) for field in fields}
    return str(value)


@contextlib.contextmanager
def stdout_kept_clean() -> Iterator[Callable[[str], None]]:
    """Send to stderr whatever is printed inside the block: by the script, by native code, by worker processes.

    Yields:
        What writes a text to stdout itself, in spite of the block.
    """
    sys.stdout.flush()
    try:
        saved = os.dup(1)
        os.dup2(2, 1)
    except OSError:
        # There is no such descriptor (a service without a console): only Python's own streams are left to mind.
        saved = None
    try:
        stdout = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):
            yield lambda text: _write(saved, text) if saved is not None else print(text, file=stdout, flush=True)
    finally:
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)


def _write(descriptor: int, text: str) -> None:
    with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
        file.write(text + "\n")
