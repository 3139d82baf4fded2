"""What each kind of scalar is in a Parquet column: the equal value, or one error that names the column and the row."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.utils.timestamp import Timestamp

from sage.runners.local import LocalRunner
from sage.transforms.io import WriteParquet
from tests.models.two_phase import Checkpoint, Driver, sink_of

UTC = dt.timezone.utc
PLUS_2 = dt.timezone(dt.timedelta(hours=2))
DAY, NOON = dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 12)


class Level(enum.IntEnum):
    LOW = 3


class Shape(enum.Enum):
    ROUND = 1


class Refused(str):
    """A part of the reason why a value is not stored."""


RANGE, WHOLE, FINE = Refused("out of the type's range"), Refused("not a whole number"), Refused("finer than")
ANY = Refused("")
NS = pa.timestamp("ns")
CASES: list[tuple[Any, Any, Any]] = [
    *[(pa.int64(), kind(3), 3) for kind in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64, Level)],
    *[(pa.int64(), value, 3) for value in (3.0, np.float32(3), Decimal(3), pd.Series([3], dtype="Int64").iloc[0])],
    *[(pa.int64(), value, None) for value in (None, pd.NA, pd.NaT, np.datetime64("NaT"))],
    *[(pa.int64(), value, WHOLE) for value in (1.5, np.float64(1.5), Decimal("1.5"), float("nan"), float("inf"))],
    *[(pa.int64(), value, WHOLE) for value in (Decimal("NaN"), Decimal("Infinity"))],
    *[(pa.int64(), value, RANGE) for value in (1e300, 2**63, 2**70, np.uint64(2**64 - 1), -(2**63) - 1)],
    *[(pa.int64(), value, ANY) for value in ("3", True, np.bool_(True), b"3", DAY, Shape.ROUND, uuid.UUID(int=3))],
    *[(pa.int8(), value, ANY) for value in (128, np.int64(-129), 1.5)],
    (pa.uint64(), np.uint64(2**64 - 1), 2**64 - 1),
    (pa.uint64(), -1, ANY),
    *[(pa.float64(), kind(0.5), 0.5) for kind in (float, np.float16, np.float32, np.float64, np.longdouble)],
    (pa.float64(), 2**53 + 1, ANY),
    (pa.float64(), np.longdouble(1) / 3, Refused("more digits than a float")),
    *[(pa.float64(), value, ANY) for value in ("1", Decimal("0.5"), True, 1j)],
    (pa.float32(), 1e300, Refused("too large")),
    (pa.float32(), float("inf"), float("inf")),
    (pa.float16(), 1e6, Refused("too large")),
    (pa.bool_(), np.bool_(True), True),
    (pa.bool_(), 1, ANY),
    *[(pa.string(), value, "a") for value in ("a", np.str_("a"), b"a", bytearray(b"a"))],
    *[(pa.string(), value, ANY) for value in (1, Level.LOW, float("nan"), b"\xff", uuid.UUID(int=1), Shape.ROUND)],
    (pa.string(), "a\ud800", Refused("half of a surrogate pair")),
    (pa.string(), "a\0b", "a\0b"),
    *[(pa.binary(), value, b"a") for value in (b"a", np.bytes_(b"a"), bytearray(b"a"), memoryview(b"a"))],
    (pa.binary(2), b"abc", ANY),
    (pa.decimal128(5, 2), Decimal("1.234"), ANY),
    (pa.decimal128(5, 2), Decimal("1234.5"), ANY),
    (pa.decimal128(5, 2), np.int64(3), Decimal("3.00")),
    (pa.decimal128(5, 2), 1.5, ANY),
    *[(pa.date32(), value, DAY) for value in (DAY, dt.datetime(2024, 2, 29), np.datetime64("2024-02-29"))],
    (pa.date32(), pd.NaT, None),
    *[(pa.date32(), value, Refused("time of day or a zone")) for value in (NOON, pd.Timestamp(NOON))],
    (pa.date32(), dt.datetime(2024, 2, 29, tzinfo=PLUS_2), Refused("time of day or a zone")),
    *[(pa.timestamp("us"), value, NOON) for value in (NOON, pd.Timestamp(NOON), np.datetime64(NOON))],
    (pa.timestamp("us"), NOON.replace(tzinfo=UTC), NOON),
    (pa.timestamp("us"), NOON.replace(tzinfo=PLUS_2), Refused("has a zone, and the column has none")),
    (pa.timestamp("us"), dt.datetime(1, 1, 1), dt.datetime(1, 1, 1)),
    *[(pa.timestamp("us"), value, FINE) for value in (pd.Timestamp(5), np.datetime64(5, "ns"))],
    (pa.timestamp("us"), DAY, ANY),
    (pa.timestamp("us", "UTC"), NOON, NOON.replace(tzinfo=UTC)),
    (pa.timestamp("us", "UTC"), Timestamp(0), dt.datetime(1970, 1, 1, tzinfo=UTC)),
    (pa.timestamp("us", "Europe/Berlin"), NOON, Refused("has no zone, and the column has one")),
    (pa.timestamp("us", "Europe/Berlin"), NOON.replace(tzinfo=PLUS_2), NOON.replace(tzinfo=PLUS_2)),
    *[(pa.timestamp(unit), NOON.replace(microsecond=5), FINE) for unit in ("s", "ms")],
    (pa.timestamp("ms"), NOON.replace(microsecond=5_000), NOON.replace(microsecond=5_000)),
    *[(NS, value, pd.Timestamp(5)) for value in (pd.Timestamp(5), np.datetime64(5, "ns"))],
    (NS, np.datetime64("2024-02-29"), pd.Timestamp("2024-02-29")),
    (NS, dt.datetime(1, 1, 1), ANY),
    (NS, np.datetime64("0001-01-01"), ANY),
    (NS, pd.NaT, None),
    (pa.time64("us"), dt.time(1, 2, 3, 4), dt.time(1, 2, 3, 4)),
    (pa.time64("us"), dt.time(1, tzinfo=UTC), Refused("with a zone has no column type")),
    (pa.time32("s"), dt.time(1, 2, 3, 4), FINE),
    *[(pa.duration("s"), value, dt.timedelta(0, 5)) for value in (pd.Timedelta(seconds=5), np.timedelta64(5, "s"))],
    (pa.duration("s"), dt.timedelta(microseconds=5), FINE),
    *[(pa.duration("ns"), value, pd.Timedelta(5)) for value in (pd.Timedelta(5), np.timedelta64(5, "ns"))],
    (pa.duration("ns"), np.timedelta64("NaT"), None),
    (pa.list_(pa.int64()), [np.int64(1), None, 2.0], [1, None, 2]),
    (pa.list_(pa.int64()), np.array([1, 2]), [1, 2]),
    (pa.list_(pa.int64()), [1.5], WHOLE),
    (pa.list_(pa.int64()), np.array([1.5]), WHOLE),
    (pa.list_(pa.int64()), {1}, Refused("make it a list")),
    (pa.list_(pa.float64()), np.array([0.5, 1]), [0.5, 1.0]),
    (pa.list_(pa.list_(pa.int8())), [[np.int8(1)], None], [[1], None]),
    (pa.struct([("x", pa.int64())]), {"x": np.int64(1)}, {"x": 1}),
    (pa.struct([("x", pa.int64())]), {"x": 1.5}, WHOLE),
    (pa.struct([("x", pa.int64())]), {"x": 1, "y": 2}, Refused("a field 'y' that the column lacks (x)")),
    (pa.map_(pa.string(), pa.int64()), {"a": np.int64(1)}, [("a", 1)]),
    (pa.map_(pa.string(), pa.int64()), {"a": 1.5}, WHOLE),
    (pa.dictionary(pa.int32(), pa.string()), np.str_("a"), "a"),
    (None, np.float32(0.5), 0.5),
    (None, np.datetime64("2024-02-29"), DAY),
    (None, pd.Timestamp(NOON), NOON),
    (None, pd.NA, None),
    (None, Level.LOW, 3),
    (None, [np.int64(1)], [1]),
    (None, {"a": np.int64(1)}, {"a": 1}),
    *[(None, value, ANY) for value in (Shape.ROUND, 2**63, 1j, "\ud800", pd.Timestamp(5), dt.time(1, tzinfo=UTC))],
]


def _shown(value: Any) -> str:
    # A view shows its address, which is another one in each process that runs tests.
    return str(bytes(value) if isinstance(value, memoryview) else value)


def _name(case: tuple[Any, Any, Any]) -> str:
    kind, value, _ = case
    return f"{kind}-{type(value).__name__}-{_shown(value)[:16]}".encode("ascii", "replace").decode()


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_a_value_in_parquet(tmp_path: Path, case: tuple[Any, Any, Any]) -> None:
    kind, value, wanted = case
    schema = None if kind is None else pa.schema([("id", pa.int64()), ("x", kind)])
    (sink,) = Driver(sink_of(WriteParquet(str(tmp_path / "out"), schema)), tmp_path / "state").start(Checkpoint())
    sink.process({"id": 1, "x": None})
    sink.process({"id": 2, "x": value})
    if isinstance(wanted, Refused):
        with pytest.raises(ValueError, match=r"file '.*/out/': column 'x'.*The row: {'id': 2") as caught:
            sink.prepare(1)
        assert wanted in str(caught.value)
        return
    sink.commit(sink.prepare(1))
    (path,) = (tmp_path / "out").glob("part-*")
    found = pq.ParquetFile(path).read().column("x")[1].as_py()
    assert found == wanted
    assert type(found) is type(wanted)


def _write(rows: list[Any], sink: beam.PTransform) -> None:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create([0]) | beam.FlatMap(lambda _: rows) | sink


@pytest.mark.parametrize("path", ["a.parquet", "folder"])
@pytest.mark.parametrize("schema", [None, pa.schema([("id", pa.int64()), ("x", pa.string())])])
def test_the_row_is_named_by_a_job(tmp_path: Path, path: str, schema: Any) -> None:
    rows = [{"id": n, "x": "\ud800" if n == 50 else "a"} for n in range(100)]
    with pytest.raises(Exception, match=r"'WriteParquet|column 'x'") as caught:
        _write(rows, WriteParquet(str(tmp_path / path), schema))
    for part in (str(tmp_path / path), "column 'x'", "half of a surrogate pair", "'id': 50", "WriteParquet"):
        assert part in str(caught.value)


@pytest.mark.parametrize(("first", "second"), [(NOON, NOON.replace(tzinfo=PLUS_2)), (1, "a"), (True, 1), (DAY, NOON)])
def test_values_that_do_not_go_together_are_no_column(tmp_path: Path, first: Any, second: Any) -> None:
    for rows in ([first, second], [second, first]):
        (sink,) = Driver(sink_of(WriteParquet(str(tmp_path / "out"))), tmp_path / "state").start(Checkpoint())
        for row in rows:
            sink.process({"x": row})
        with pytest.raises(ValueError, match="column 'x'"):
            sink.prepare(1)
