"""Keeps a worker process from starting jobs: each job would start workers, and these would start jobs again.

It happens where the pipeline stands in the body of a module. A worker imports the module to find the functions of the
job, and the import runs the pipeline.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import Any

from apache_beam.pipeline import Pipeline

from sage.errors import ConfigError

_is_worker = False


def refuse_jobs() -> None:
    """Makes this process a worker: from now on no job starts in it. A fork of it is a worker, too.

    A pipeline that names a runner other than SAGE's is refused where an import would run it.
    """
    global _is_worker
    if _is_worker:
        return
    _is_worker = True
    run = Pipeline.run

    @functools.wraps(run)
    def checked(self: Pipeline, *args: Any, **kwargs: Any) -> Any:
        if (module := _imported()) is not None:
            raise ConfigError(_of_import(module))
        return run(self, *args, **kwargs)

    Pipeline.run = checked


def check_may_start(workers: int = 1) -> None:
    """Checks that this process may start a job of its own.

    A step may run a pipeline in its own process. One with workers of its own is refused in a worker.

    Args:
        workers: how many workers the job is to have (count).

    Raises:
        ConfigError: a worker, or a process of `multiprocessing`, imports a module that runs a pipeline; or the job is
            to have several workers, and this process is a worker of another job.
    """
    module = _imported() if _is_worker else "__mp_main__" if "__mp_main__" in _module_bodies() else None
    if module is not None:
        raise ConfigError(_of_import(module))
    if _is_worker and workers > 1:
        raise ConfigError(
            f"a step of a job that runs in worker processes cannot run a pipeline with --workers={workers}: run that "
            "one with --workers=1, or before or after this job"
        )


def _imported() -> str | None:
    """The outermost module whose body runs at this moment; None if none does."""
    found = [name for name in _module_bodies() if name != "__main__"]
    return found[-1] if found else None


def _module_bodies() -> Iterator[str]:
    """The names of the modules whose bodies are on the stack, the innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            yield str(frame.f_globals.get("__name__"))
        frame = frame.f_back  # type: ignore[assignment]


def _of_import(module: str) -> str:
    if module == "__mp_main__":
        what = "the main script runs a pipeline when a process of multiprocessing imports it"
    else:
        what = f"module {module!r} runs a pipeline when it is imported, and worker processes import it"
    return (
        f"{what}: the job would start again in each of them. Build and run the pipeline in a function, such as "
        '`def main():`, and call it below `if __name__ == "__main__":`; `sage run` calls main by itself'
    )
