"""Finding the splits of a `StreamSource`: once, or again and again, for those that appear later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Duration

if TYPE_CHECKING:
    from sage.sources import StreamSource

__all__ = ["ESTIMATOR", "FindSplits", "WatchSplits"]


class FindSplits(beam.DoFn):
    """The splits of a source, once."""

    def __init__(self, source: StreamSource[Any]) -> None:
        self.source = source

    def process(self, element: bytes) -> Iterable[Any]:
        return self.source.splits()


class _Seen(RestrictionTracker):
    """The splits that are known: claimed with those just found; what is left is the same watch, knowing them.

    The restriction is whether the watch has begun, and the splits: never a set that is empty, which Beam takes for
    nothing left.
    """

    def __init__(self, restriction: tuple[bool, frozenset[Any]]) -> None:
        self._begun, self._seen = restriction
        self._stopped = False

    def current_restriction(self) -> Any:
        return self._begun, self._seen

    def try_claim(self, known: frozenset[Any]) -> bool:
        if self._stopped:
            return False
        self._begun, self._seen = True, known
        return True

    def try_split(self, fraction_of_remainder: float) -> Any:
        if self._stopped:
            return None
        self._stopped = True
        return (True, frozenset()), (self._begun, self._seen)

    def current_progress(self) -> RestrictionProgress:
        return RestrictionProgress(completed=0, remaining=1)

    def check_done(self) -> None:
        """A watch has no end of its own."""

    def is_bounded(self) -> bool:
        return False


class _SeenProvider(RestrictionProvider):
    def initial_restriction(self, element: Any) -> Any:
        return False, frozenset()

    def create_tracker(self, restriction: Any) -> _Seen:
        return _Seen(restriction)

    def restriction_size(self, element: Any, restriction: Any) -> int:
        return 1

    def truncate(self, element: Any, restriction: Any) -> Any:
        return None


ESTIMATOR = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider())
_SEEN = beam.DoFn.RestrictionParam(_SeenProvider())


class WatchSplits(beam.DoFn):
    """The splits of a source, and new ones as they appear."""

    def __init__(self, source: StreamSource[Any]) -> None:
        self.source = source

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element: bytes,
        tracker: Any = _SEEN,
        estimator: Any = ESTIMATOR,
    ) -> Iterator[Any]:
        begun, seen = tracker.current_restriction()
        # One that was left behind and is named again later is found again.
        known = frozenset(split for split in seen if self.source.accepts(split))
        fresh = [split for split in self.source.splits() if split not in known]
        if begun:
            fresh = [self.source.on_discovered(split) for split in fresh]
        if not tracker.try_claim(known.union(fresh)):
            return
        yield from fresh
        # What time it is for the events only the readers know: a worker that has no split must not hold others back.
        # Before there is any split, nobody knows.
        if known or fresh:
            estimator.set_watermark(MAX_TIMESTAMP - Duration(micros=1))
        tracker.defer_remainder(Duration(micros=(self.source.discovery_ms or 0) * 1000))
