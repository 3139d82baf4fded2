"""The first records of a stream: as many as asked for, or for as long; a source that ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sage.sources import Batch, SplitReader, StreamSource
from sage.transforms.io.kafka.source import KafkaSource, PartitionReader, Split

__all__ = ["FirstRecords"]


class _Progress(NamedTuple):
    """How far the reading has come.

    Attributes:
        offsets: the offset to go on from, for each split.
        taken: how many records were read (count).
        began_ms: when it began (ms since the epoch).
    """

    offsets: tuple[tuple[Split, int], ...]
    taken: int
    began_ms: int


class FirstRecords(StreamSource[Any]):
    """The partitions of a source read as one split, so that the count is exact. For tests and demonstrations.

    Args:
        source: what is read.
        records: after how many it ends (count), or None.
        seconds: after how long it ends (seconds), or None.
    """

    bounded = True

    def __init__(self, source: KafkaSource, records: int | None, seconds: float | None) -> None:
        self.source = source
        self.max_watermark_lead_ms = source.max_watermark_lead_ms
        self.watermark_alignment = source.watermark_alignment
        self.records = records
        self.seconds = seconds

    def splits(self) -> Sequence[tuple[Split, ...]]:
        return [tuple(self.source.splits())]

    def accepts(self, split: tuple[Split, ...]) -> bool:
        return all(map(self.source.accepts, split))

    def open(self) -> None:
        self.source.open()

    def close(self) -> None:
        self.source.close()

    def reader(self, split: tuple[Split, ...], position: _Progress | None) -> SplitReader[Any]:
        offsets = dict(position.offsets) if position else {}
        readers = {each: self.source.reader(each, offsets.get(each)) for each in split}
        began_ms = position.began_ms if position else self.source.now_ms()
        return _FirstRecordsReader(self, readers, position.taken if position else 0, began_ms)


class _FirstRecordsReader(SplitReader[Any]):
    def __init__(self, first: FirstRecords, readers: dict[Split, PartitionReader], taken: int, began_ms: int) -> None:
        self._first = first
        self._readers = readers
        self._taken = taken
        self._began_ms = began_ms

    def poll(self, limit: int) -> Batch | None:
        if self.finished:
            return None
        if self._first.records is not None:
            limit = min(limit, self._first.records - self._taken)
        for each in list(self._readers):
            batch = self._readers[each].poll(limit)
            if batch is not None:
                self._readers[each] = self._readers.pop(each)  # the others come first next time
                self._taken += len(batch.values)
                return batch
        return None

    def position(self) -> _Progress:
        offsets = tuple(sorted((each, reader.position()) for each, reader in self._readers.items()))
        return _Progress(offsets, self._taken, self._began_ms)

    def watermark(self) -> int:
        return min((reader.watermark() for reader in self._readers.values()), default=0)

    @property
    def finished(self) -> bool:
        first = self._first
        if first.records is not None and self._taken >= first.records:
            return True
        return first.seconds is not None and first.source.now_ms() - self._began_ms >= first.seconds * 1000

    def lag(self) -> int | None:
        lags = [reader.lag() for reader in self._readers.values()]
        return None if None in lags else sum(lag or 0 for lag in lags)

    def committed(self, position: _Progress) -> None:
        for each, offset in position.offsets:
            self._readers[each].committed(offset)

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
