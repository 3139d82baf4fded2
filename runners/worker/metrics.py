"""User metrics gathered over steps and workers."""

from __future__ import annotations

import contextlib
import copyreg
from collections.abc import Iterable
from typing import Any

from apache_beam.utils.histogram import Histogram

from sage.runners.engine.operators.base.context import JobContext

KINDS = ("counters", "distributions", "gauges", "string_sets", "bounded_tries", "histograms")
_TRIES = 8


def _histogram(state: dict[str, Any]) -> Histogram:
    histogram = Histogram(state["_bucket_type"])
    vars(histogram).update(state)
    return histogram


def _reduce_histogram(histogram: Histogram) -> tuple[Any, ...]:
    return _histogram, ({name: part for name, part in vars(histogram.copy()).items() if name != "_lock"},)


copyreg.pickle(Histogram, _reduce_histogram)  # its lock keeps it from going to a driver


def _updates(container: Any) -> Any:
    """What a container holds; a step may add to it meanwhile, in another thread."""
    for _ in range(_TRIES):
        with contextlib.suppress(RuntimeError):  # a metric is new, and the dictionary not what it was
            return container.get_cumulative()
    return container.get_cumulative()


def cumulative(job: JobContext) -> dict[str, Any]:
    """The cumulative data of every metric cell, by kind and then by key."""
    found: dict[str, Any] = {kind: {} for kind in KINDS}
    for container in list(job.containers.values()):
        updates = _updates(container)
        for kind in KINDS:
            found[kind].update(getattr(updates, kind, {}))
    return found


def merge_metrics(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The metrics of several workers as one."""
    merged: dict[str, Any] = {kind: {} for kind in KINDS}
    for part in parts:
        for kind, cells in part.items():
            for key, value in cells.items():
                if key not in merged[kind]:
                    merged[kind][key] = value
                elif isinstance(value, int):
                    merged[kind][key] += value
                else:
                    merged[kind][key] = merged[kind][key].combine(value)
    return merged
