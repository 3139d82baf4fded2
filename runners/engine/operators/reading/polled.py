"""Streams with positions: splits of a `StreamSource`, read batch by batch.

`ReadSplit` is a splittable DoFn like any other, and runs as one on any runner. Here its readers are driven directly:
a batch becomes a block, a position is what a snapshot holds. Its general twin is the splittable DoFn as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, TypeGuard

from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from sage.errors import CheckpointError
from sage.runners.engine.checkpoint.snapshot import RootSnapshot, RootState
from sage.runners.engine.core import spec
from sage.runners.engine.core.adaptive_batch import TURNS_PER_BUNDLE, AdaptiveBatchSize
from sage.runners.engine.core.blocks import MAX_MICROS, MIN_MICROS, Block, TimestampColumn
from sage.runners.engine.operators.base.context import TaskContext, VirtualClock
from sage.runners.engine.operators.base.operator import Output, ParDoOp
from sage.runners.engine.operators.base.root import StepRoot
from sage.runners.engine.operators.reading.watermark_alignment import IDLE_MICROS, WatermarkAlignment
from sage.runners.engine.serde.wire import decode_row, encode_row
from sage.sources import Batch, ReadBounded, ReadSplit, SplitReader, StreamSource

SHORTEST_WAIT_MICROS = 500
LONGEST_WAIT_MICROS = 10_000
_POLLS_PER_BUNDLE = 5
"""What a turn costs beside its elements is shared by those that come in a fifth of the time that they may wait."""


def reads_splits(step: spec.Step) -> TypeGuard[spec.ParDo]:
    """Whether a step is the reader of a `StreamSource`."""
    return isinstance(step, spec.ParDo) and type(step.dofn.fn) in (ReadSplit, ReadBounded) and not step.side_inputs


class _Split:
    """One split that is read: its reader, the element it came as, when to ask it again, and since when it has had
    nothing to give.
    """

    __slots__ = ("dry_since", "element", "given", "idle", "mark", "next_poll", "reader", "wait")

    def __init__(self, element: WindowedValue, reader: SplitReader[Any], wait: int) -> None:
        self.element = element
        self.reader = reader
        self.mark = MIN_MICROS
        self.next_poll = 0
        self.wait = wait
        self.given = self.idle = False
        self.dry_since: int | None = None

    def counts(self, limit: int) -> bool:
        """Whether splits of the same alignment group wait for it; those beyond the limit (microseconds) are waiting."""
        return self.mark > limit or not (self.idle or (self.given and self.mark <= MIN_MICROS))

    def gave(self, mark: int) -> None:
        """It gave elements, and its watermark came to ``mark`` (microseconds)."""
        self.given, self.idle, self.dry_since = True, False, None
        self.mark = max(self.mark, mark)

    def gave_nothing(self, mark: int, now: int) -> None:
        """It had nothing to give at a processing time, and its watermark came to ``mark`` (microseconds)."""
        self.mark = max(self.mark, mark)
        if self.dry_since is None:
            self.dry_since = now
        self.idle = now - self.dry_since >= IDLE_MICROS

    @property
    def due(self) -> int:
        """When to ask it again (microseconds)."""
        return MIN_MICROS if self.reader.ready else self.next_poll

    @property
    def split(self) -> Any:
        return _split_of(self.element)


def _split_of(element: WindowedValue) -> Any:
    (split, _), _ = element.value
    return split


def splits_in(rows: Iterable[bytes]) -> list[Any]:
    """The splits that the rows of a snapshot (`RootSnapshot.spread`) have positions in."""
    return [_split_of(decode_row(row)[0]) for row in rows]


def not_read(source: StreamSource[Any], splits: Iterable[Any]) -> str | None:
    """What is wrong with the splits of a checkpoint: there are some that the source does not read."""
    others = ", ".join(str(split) for split in splits if not source.accepts(split))
    if not others:
        return None
    return (
        f"the checkpoint reads {others}, which the source does not name any more: name it again, or leave it and what "
        "was not read of it behind with --allow_dropped_state"
    )


def _check(source: StreamSource[Any], splits: Iterable[Any]) -> None:
    problem = not_read(source, splits)
    if problem is not None:
        raise CheckpointError.unfit(problem)


class PolledRoot(StepRoot):
    """Reads splits from their positions.

    State: the splits that are read here, and within a turn what they gave. They take turns; one that had nothing is
    asked again after a while, which grows to `LONGEST_WAIT_MICROS`. A split holds the watermark at what its reader said
    last, but not further ahead of the clock than the source allows (`StreamSource.max_watermark_lead_ms`). The reader
    of a split that has ended stays open until a checkpoint that knows of the end is durable. One that is too far ahead
    of its alignment group is not asked.
    """

    op: ParDoOp
    reads_external = True
    alignment: WatermarkAlignment | None = None

    def __init__(self, step: spec.ParDo, outputs: dict[str | None, Output], context: TaskContext) -> None:
        super().__init__(ParDoOp(step, outputs, context))
        self._context = context
        self._clock = context.clock
        self._source = step.dofn.fn.source
        self._output = outputs[None]
        lead = self._source.max_watermark_lead_ms
        # On a clock that only the input moves, no event time is ahead of it or behind.
        self._lead = None if lead is None or isinstance(self._clock, VirtualClock) else lead * 1_000
        bundle = context.job.options.bundle_micros
        self._turn = bundle // TURNS_PER_BUNDLE
        self._wait = min(max(bundle // _POLLS_PER_BUNDLE, SHORTEST_WAIT_MICROS), LONGEST_WAIT_MICROS)
        most = self._source.max_poll_records or context.block_rows
        self._portion = AdaptiveBatchSize(min(most, context.block_rows), self._turn)
        self._gave = 0
        self._gave_at: int | None = None
        self._splits: list[_Split] = []
        self._ended: list[SplitReader[Any]] = []
        self._sealed: list[tuple[SplitReader[Any], Any]] = []
        self._opened = False
        self._read: list[Batch] = []
        self._windowing: tuple[Any, Any] = ((), None)  # their windows and pane

    def process_block(self, port: int, block: Block) -> None:
        for value in block.windowed_values():
            self._begin(value)

    def _begin(self, element: WindowedValue) -> None:
        (split, ((position, ended), _)), _ = element.value
        if not self._opened:
            self._opened = True
            self.op.guarded(self._source.open)
        if ended:
            return
        found = _Split(element, self.op.guarded(self._source.reader, split, position), self._wait)
        found.mark = self.op.guarded(self._watermark_of, found.reader, self._clock.now_micros())
        self._splits.append(found)

    def fire(self) -> None:
        """Polls the splits that are due, round after round, until the turn is over or its portion is read."""
        now = self._clock.now_micros()
        if self._gave_at is not None:
            self._portion.observe(self._gave, now - self._gave_at)
        began, ends = now, now + self._turn
        room, limit = self._portion.size, self._align(now)
        while True:
            due = [split for split in self._splits if split.due <= now and split.mark <= limit]
            room -= self.op.guarded(self._poll, due, room, now)
            self._splits = [split for split in self._splits if split.mark < MAX_MICROS]
            now = self._clock.now_micros()
            limit = self._align(now)
            more = any(split.due <= now and split.mark <= limit for split in self._splits)
            if now >= ends or room <= 0 or not more:
                break
        self._send()
        self._gave = self._portion.size - room
        self.behind = room <= 0
        # Else it rests before the next turn, for nobody knows how long.
        self._gave_at = began if more and self._gave else None

    def _watermark_of(self, reader: SplitReader[Any], now: int) -> int:
        """Returns the watermark of a reader, as far as the clock (microseconds) allows."""
        ends = MAX_MICROS - 1
        if self._lead is not None:
            ends = min(ends, now + self._lead)
        return min(reader.watermark(), ends)

    def _poll(self, due: list[_Split], room: int, now: int) -> int:
        """How many elements came (count), until there was no room for more."""
        count = 0
        for split in due:
            batch = split.reader.poll(room - count)
            if batch is not None and batch.values:
                count += len(batch.values)
                self._take(split.element, batch)
                split.wait = self._wait
                split.gave(self._watermark_of(split.reader, now))
                if count >= room:
                    self._next_turn(split, alone=split is due[0])
                    break
            elif split.reader.finished:
                split.mark = MAX_MICROS
                self._ended.append(split.reader)
            else:
                split.next_poll = self._clock.now_micros() + split.wait
                split.wait = min(2 * split.wait, LONGEST_WAIT_MICROS)
                split.gave_nothing(self._watermark_of(split.reader, now), now)
        return count

    def _next_turn(self, split: _Split, alone: bool) -> None:
        """A split has used up the room: it comes last in the next turn if it had all of it, and first if it had what
        the others left.
        """
        at = self._splits.index(split) + alone
        self._splits = self._splits[at:] + self._splits[:at]

    def _take(self, element: WindowedValue, batch: Batch) -> None:
        """Puts what a split gave aside, to leave in one block with what others give in this turn."""
        windowing = tuple(element.windows), element.pane_info
        if self._read and not (windowing == self._windowing and _alike(self._read[0].timestamps, batch.timestamps)):
            self._send()
        self._windowing = windowing
        self._read.append(batch)

    def _send(self) -> None:
        """Sends what was put aside."""
        batches, self._read = self._read, []
        if not batches:
            return
        values, micros = batches[0] if len(batches) == 1 else _joined(batches)
        stamps = _timestamp(micros) if isinstance(micros, int) else TimestampColumn(micros)
        self._output.receive_block(Block(values, stamps, *self._windowing))

    @property
    def aligns(self) -> bool:
        """Whether its splits may wait for others that are behind in event time."""
        return self._source.watermark_alignment

    def least_watermark(self, limit: int) -> int:
        """Returns the least watermark (microseconds) of the splits for which their group waits."""
        return min((split.mark for split in self._splits if split.counts(limit)), default=MAX_MICROS)

    def _align(self, now: int) -> int:
        """Returns up to which watermark (microseconds) splits are read."""
        if self.alignment is None:
            return MAX_MICROS
        self.alignment.update(now)
        return self.alignment.limit

    def wakeup(self) -> int | None:
        if self.alignment is None:
            return min((split.due for split in self._splits), default=None)
        limit, due = self.alignment.limit, self.alignment.due()
        times = [split.due for split in self._splits if split.mark <= limit]
        return min(times if due is None else [*times, due], default=None)

    @property
    def reading(self) -> bool:
        return bool(self._splits)

    def hold(self) -> int:
        return min((split.mark for split in self._splits), default=MAX_MICROS)

    def lag(self) -> int | None:
        """How many elements wait to be read (count), as far as the readers know; None if none does."""
        known = [lag for split in self._splits if (lag := split.reader.lag()) is not None]
        return sum(known) if known else None

    def snapshot(self, whole: bool) -> RootSnapshot:
        readers = [*(split.reader for split in self._splits), *self._ended]
        self._sealed = [(reader, reader.position()) for reader in readers]
        rows = [
            encode_row(split.element.with_value(((split.split, ((position, False), None)), 1)), split.mark)
            for split, (_, position) in zip(self._splits, self._sealed, strict=False)
        ]
        return RootSnapshot(spread=rows)

    def restore(self, state: RootState) -> None:
        dropping = self._context.job.options.allow_dropped_state
        rows = [decode_row(data) for data in state.spread]
        if not dropping:
            self.op.guarded(_check, self._source, [_split_of(element) for element, _ in rows])
        for element, mark in rows:
            if dropping and not self.op.guarded(self._source.accepts, _split_of(element)):
                continue
            self._begin(element)
            if self._splits:
                self._splits[-1].mark = mark

    def on_checkpoint_complete(self) -> None:
        sealed, self._sealed = self._sealed, []
        for reader, position in sealed:
            self.op.guarded(reader.committed, position)
            if reader in self._ended:
                self._ended.remove(reader)
                self.op.guarded(reader.close)

    def drain(self) -> None:
        self._ended += [split.reader for split in self._splits]
        self._splits = []
        self._align(self._clock.now_micros())

    def close(self) -> None:
        readers = [*(split.reader for split in self._splits), *self._ended]
        self._splits, self._ended = [], []
        for reader in readers:
            self.op.guarded(reader.close)
        if self._opened:
            self._opened = False
            self.op.guarded(self._source.close)
        super().close()


def _alike(first: list[int] | int, other: list[int] | int) -> bool:
    """Whether batches with these timestamps can be in one block."""
    return first == other if isinstance(other, int) else not isinstance(first, int)


def _joined(batches: list[Batch]) -> Batch:
    """Batches with one timestamp, the same, or with one for each of their values, as one."""
    values = list(chain.from_iterable([batch.values for batch in batches]))
    first = batches[0].timestamps
    if isinstance(first, int):
        return Batch(values, first)
    return Batch(values, [at for batch in batches if not isinstance(batch.timestamps, int) for at in batch.timestamps])


def _timestamp(micros: int) -> Timestamp:
    return Timestamp(micros=min(max(micros, MIN_MICROS), MAX_MICROS))
