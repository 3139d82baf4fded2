"""Streams of events read from positions: what a connector defines, and the transform that reads it.

A `StreamSource` is cut into splits (a partition of a topic, a shard, a file); each is read in order by a `SplitReader`
that can start at any position it has reported. `ReadStream` makes a Beam transform of it: a splittable DoFn, which runs
on any runner. SAGE's engine knows it and takes whole batches from the readers.

    pipeline | ReadStream(Ticks(rate=1000))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import apache_beam as beam
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Duration, Timestamp

from sage import runtime
from sage.deprecated import adopt_old_methods
from sage.split_discovery import ESTIMATOR, FindSplits, WatchSplits

__all__ = ["Batch", "ReadStream", "SplitReader", "StreamSource"]

Out = TypeVar("Out")
_POLL_ROWS = 4096
_IDLE = Duration(micros=10_000)


class Batch(NamedTuple):
    """Elements of one split.

    Attributes:
        values: the elements, in order.
        timestamps: the event time of each (microseconds since the epoch), or one for all.
    """

    values: list[Any]
    timestamps: list[int] | int


# No `abc.ABC` here: the pickler of Beam 2.61 cannot take a class with that metaclass by value, as a script's are taken.
class SplitReader(Generic[Out]):
    """Reads one split in order. Used by one thread."""

    def poll(self, limit: int) -> Batch | None:
        """What is there now, at most ``limit`` elements (count); None if nothing is. Returns within milliseconds."""
        raise NotImplementedError

    def position(self) -> Any:
        """Where reading would go on after what `poll` has given: a small picklable value."""
        raise NotImplementedError

    def watermark(self) -> int:
        """No element before this event time (microseconds) is expected; the watermark of an idle split moves on too."""
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """Whether `poll` would give something that is in memory already; then it is called soon, whatever it gave last.

        Asked often. What readers fetch together, one of them may find for another.
        """
        return False

    @property
    def finished(self) -> bool:
        """Whether the split has ended for good."""
        return False

    def lag(self) -> int | None:
        """How many elements of the split wait to be read (count); None if that is not known."""
        return None

    def committed(self, position: Any) -> None:
        """A checkpoint that holds this position is durable: what lies before it will not be read again."""

    def close(self) -> None:
        """Lets go of what the reader holds."""


class StreamSource(Generic[Out]):
    """A description of a stream: picklable, and opened in each worker that reads it.

    Attributes:
        bounded: whether every split ends.
        discovery_ms: how often (ms) `splits` is asked again for new ones; None for once.
        max_poll_records: how many elements are best read before the steps behind have their turn (count); None for a
            block full. What takes much memory goes through faster in portions that the processor's cache holds.
        max_watermark_lead_ms: how far (ms) the watermark may be ahead of the clock, so that one element with a wrong
            time far in the future does not make all others late. Elements keep their timestamps. None for no limit:
            for a source of simulated time, whose events are rightly ahead of the clock.
        watermark_alignment: whether splits wait for those that are behind in event time, of this source and of others
            that feed the same grouping (``--max_watermark_drift``). False where event time is the time of reading.
    """

    bounded: bool = False
    discovery_ms: int | None = None
    max_poll_records: int | None = None
    max_watermark_lead_ms: int | None = 0
    watermark_alignment: bool = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        adopt_old_methods(
            cls, {"appeared": "on_discovered", "most_at_a_time": "max_poll_records", "reads": "accepts"}
        )

    def splits(self) -> Sequence[Any]:
        """The parts of the stream that there are now: hashable, picklable values. Called at one worker."""
        raise NotImplementedError

    def reader(self, split: Any, position: Any) -> SplitReader[Out]:
        """A reader of one split from a position; None is its beginning."""
        raise NotImplementedError

    def on_discovered(self, split: Any) -> Any:
        """Returns what to read of a split that was not there when reading began: by default the split itself.

        The two must be equal. Nothing of such a split lies before the beginning of the job, whatever it begins with.
        """
        return split

    def accepts(self, split: Any) -> bool:
        """Returns whether a split that a checkpoint holds is still one of the source's.

        It is decided by what the source was made with, without asking for what there is. A job whose checkpoint holds
        a split that is not refuses to go on from it, or leaves the split behind with ``--allow_dropped_state``.
        """
        return True

    def open(self) -> None:
        """Called once in a worker before its first reader is made."""

    def close(self) -> None:
        """Called once in a worker after its last reader is closed."""


class ReadStream(beam.PTransform):
    """Reads a `StreamSource`; gives its elements with their event times."""

    def __init__(self, source: StreamSource[Any]) -> None:
        super().__init__()
        self.source = source

    def expand(self, pbegin: Any) -> Any:
        source = self.source
        find = FindSplits(source) if source.discovery_ms is None else WatchSplits(source)
        read = ReadBounded(source) if source.bounded else ReadSplit(source)
        return (
            pbegin
            | "Start" >> beam.Impulse()
            | "FindSplits" >> beam.ParDo(find)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(read)
        )


class _Positions(RestrictionTracker):
    """From a position to the end of the split; a position is claimed when the elements before it are taken.

    The restriction is the position and whether the split has ended: never None, which Beam takes for none at all.
    """

    def __init__(self, restriction: tuple[Any, bool]) -> None:
        self._position, self._ended = restriction
        self._stopped = False

    def current_restriction(self) -> Any:
        return self._position, self._ended

    def try_claim(self, claimed: tuple[Any, bool]) -> bool:
        if self._stopped:
            return False
        self._position, self._ended = claimed
        return True

    def try_split(self, fraction_of_remainder: float) -> Any:
        if self._stopped or self._ended:
            return None
        self._stopped = True
        return (self._position, True), (self._position, False)

    def current_progress(self) -> RestrictionProgress:
        return RestrictionProgress(completed=0, remaining=1)

    def check_done(self) -> None:
        """Where a split ends only its reader knows."""

    def is_bounded(self) -> bool:
        return False


class _PositionProvider(RestrictionProvider):
    def initial_restriction(self, element: Any) -> Any:
        return None, False

    def create_tracker(self, restriction: Any) -> _Positions:
        return _Positions(restriction)

    def restriction_size(self, element: Any, restriction: Any) -> int:
        return 1

    def truncate(self, element: Any, restriction: Any) -> Any:
        return None


_POSITIONS = beam.DoFn.RestrictionParam(_PositionProvider())


class _Read(beam.DoFn):
    """Reads splits; each restriction is a position in one.

    State: the readers that are open, by split, so that a split that is resumed goes on where its reader stands.
    """

    def __init__(self, source: StreamSource[Any]) -> None:
        self.source = source
        self._readers: dict[Any, tuple[SplitReader[Any], Any]] = {}
        self._opened = False

    def setup(self) -> None:
        self._readers = {}

    def teardown(self) -> None:
        for reader, _ in self._readers.values():
            reader.close()
        self._readers.clear()
        if self._opened:
            self._opened = False
            self.source.close()

    def _reader(self, split: Any, position: Any) -> SplitReader[Any]:
        if not self._opened:
            self._opened = True
            self.source.open()
        reader, stands = self._readers.pop(split, (None, None))
        if reader is not None and stands != position:
            reader.close()
            reader = None
        return reader or self.source.reader(split, position)

    def _batches(self, split: Any, tracker: Any, estimator: Any) -> Iterator[TimestampedValue]:
        position, ended = tracker.current_restriction()
        if ended:
            return
        reader = self._reader(split, position)
        keep = False
        most = self.source.max_poll_records or _POLL_ROWS
        try:
            while True:
                batch = reader.poll(most)
                if batch is None and reader.finished:
                    tracker.try_claim((reader.position(), True))
                    return
                if batch is None:
                    # Where the reader stands, also at its beginning: so that it is known again when it is resumed.
                    if not tracker.try_claim((reader.position(), False)):
                        return
                    self._move(estimator, reader)
                    tracker.defer_remainder(_IDLE)
                    keep = True
                    return
                if not tracker.try_claim((reader.position(), False)):
                    return
                yield from _stamped(batch)
                self._move(estimator, reader)
        finally:
            if keep:
                self._readers[split] = reader, reader.position()
            else:
                reader.close()

    def _move(self, estimator: Any, reader: SplitReader[Any]) -> None:
        """A reader that has just begun may know less than the one before it."""
        # Where time is simulated, that of the events has nothing to do with it.
        lead = None if runtime.simulates_time() else self.source.max_watermark_lead_ms
        mark = reader.watermark()
        watermark = _timestamp(mark if lead is None else min(mark, int(runtime.now() * 1e6) + lead * 1_000))
        if watermark > (estimator.current_watermark() or MIN_TIMESTAMP):
            estimator.set_watermark(watermark)


class ReadSplit(_Read):
    """Reads splits that do not end."""

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        split: Any,
        tracker: Any = _POSITIONS,
        estimator: Any = ESTIMATOR,
    ) -> Iterator[Any]:
        return self._batches(split, tracker, estimator)


class ReadBounded(_Read):
    """Reads splits that end."""

    def process(
        self,
        split: Any,
        tracker: Any = _POSITIONS,
        estimator: Any = ESTIMATOR,
    ) -> Iterator[Any]:
        return self._batches(split, tracker, estimator)


def _stamped(batch: Batch) -> Iterator[TimestampedValue]:
    stamps = batch.timestamps
    if isinstance(stamps, int):
        stamp = _timestamp(stamps)
        return (TimestampedValue(value, stamp) for value in batch.values)
    return (TimestampedValue(v, _timestamp(s)) for v, s in zip(batch.values, stamps, strict=True))


def _timestamp(micros: int) -> Timestamp:
    return min(max(Timestamp(micros=micros), MIN_TIMESTAMP), MAX_TIMESTAMP)
