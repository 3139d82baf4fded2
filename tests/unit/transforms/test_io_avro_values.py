"""What each value is in an Avro file: the equal value, or one error that names the column and the record."""

from __future__ import annotations

import datetime as dt
import enum
import io
import math
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import fastavro
import numpy as np
import pandas as pd
import pytest
from apache_beam.utils.timestamp import Timestamp

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms.io import WriteAvro
from sage.transforms.io.avro_records import AvroRecords
from tests.models.two_phase import Checkpoint, Driver, sink_of

UTC = dt.timezone.utc
PLUS_2 = dt.timezone(dt.timedelta(hours=2))
DAY, NOON = dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 12)
ID = uuid.UUID(int=7)


class Level(enum.IntEnum):
    LOW = 3


class Shape(enum.Enum):
    ROUND = 1


class Point(NamedTuple):
    x: int


class Refused(str):
    """A part of the reason why a value is not stored."""


ANY, WHOLE, RANGE, FINE = (
    Refused(""),
    Refused("whole number"),
    Refused("out of the type's range"),
    Refused("finer than"),
)
DEC = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}
FIXED_DEC = {"type": "fixed", "name": "F", "size": 3, "logicalType": "decimal", "precision": 5, "scale": 2}
FIXED = {"type": "fixed", "name": "F", "size": 2}
COLOUR = {"type": "enum", "name": "E", "symbols": ["RED", "BLUE"]}
POINT = {"type": "record", "name": "P", "fields": [{"name": "x", "type": "int"}]}
BLOB = {"type": "record", "name": "B", "fields": [{"name": "b", "type": "bytes", "default": "\u00ff"}]}
NODE = {
    "type": "record", "name": "N",
    "fields": [{"name": "v", "type": "int"}, {"name": "next", "type": ["null", "N"], "default": None}],
}  # fmt: skip


def _logical(base: str, kind: str) -> dict[str, str]:
    return {"type": base, "logicalType": kind}


DATE, UUID = _logical("int", "date"), _logical("string", "uuid")
MILLIS, MICROS = _logical("long", "timestamp-millis"), _logical("long", "timestamp-micros")
LOCAL = _logical("long", "local-timestamp-micros")
TIME_MILLIS, TIME_MICROS = _logical("int", "time-millis"), _logical("long", "time-micros")
MISSING = object()
CASES: list[tuple[Any, Any, Any]] = [
    *[("int", kind(3), 3) for kind in (int, np.int8, np.int64, np.uint64, float, np.float32, Decimal, Level)],
    *[("int", value, WHOLE) for value in (1.5, True, np.bool_(True), "3", math.nan, math.inf, Decimal("1.5"), ID)],
    *[("int", value, RANGE) for value in (2**31, 2**40, -(2**31) - 1, np.int64(2**40), 2.0**40)],
    ("int", pd.Series([3], dtype="Int64").iloc[0], 3),
    *[("int", value, WHOLE) for value in (None, pd.NA, pd.NaT)],
    ("int", MISSING, Refused("'x' is missing, and has no default")),
    *[("long", value, value) for value in (2**63 - 1, -(2**63))],
    *[("long", value, RANGE) for value in (2**63, 2**70, np.uint64(2**64 - 1), 1e300)],
    *[("long", value, WHOLE) for value in (1.5, np.float64(1.5), False)],
    *[("double", kind(0.5), 0.5) for kind in (float, np.float16, np.float32, np.longdouble)],
    *[("double", value, ANY) for value in (2**53 + 1, True, "1", Decimal("0.5"), 10**400)],
    ("double", 3, 3.0),
    ("double", math.inf, math.inf),
    ("float", 0.5, 0.5),
    ("float", 1e300, Refused("too large")),
    ("float", 2**25 + 1, Refused("more digits")),
    ("boolean", np.bool_(True), True),
    *[("boolean", value, ANY) for value in (1, "a", None)],
    *[("string", value, "a") for value in ("a", np.str_("a"))],
    *[("string", value, ANY) for value in (b"a", 1, None, ID, Shape.ROUND, math.nan)],
    ("string", "a\ud800", Refused("half of a surrogate pair")),
    *[("bytes", value, b"a") for value in (b"a", np.bytes_(b"a"), bytearray(b"a"), memoryview(b"a"))],
    *[("bytes", value, ANY) for value in ("a", 1, None)],
    (FIXED, b"ab", b"ab"),
    *[(FIXED, value, Refused("make it 2 bytes")) for value in (b"abc", b"a", "ab", None)],
    (COLOUR, "RED", "RED"),
    *[(COLOUR, value, Refused("its symbols are RED, BLUE")) for value in ("GREEN", 1, None)],
    *[(DEC, value, Decimal("1.20")) for value in (Decimal("1.2"), Decimal("1.200"))],
    (DEC, Decimal("-999.99"), Decimal("-999.99")),
    *[(DEC, value, Decimal(value)) for value in (0, 3, -1, Decimal("0E+9"), Decimal("1E+2"), Decimal("-1.28"))],
    (DEC, Decimal("1.234"), Refused("more than 2 digits behind the point")),
    *[(DEC, Decimal(text), Refused("more than 5 digits")) for text in ("1234.5", "12345", "1E+1000000")],
    *[(DEC, Decimal(text), ANY) for text in ("NaN", "Infinity", "1E-1000000")],
    *[(DEC, value, ANY) for value in (1.5, "1.5", True)],
    (FIXED_DEC, Decimal("-1.2"), Decimal("-1.20")),
    *[(FIXED_DEC, Decimal(text), ANY) for text in ("1.234", "1000")],
    *[(DATE, value, DAY) for value in (DAY, dt.datetime(2024, 2, 29), np.datetime64("2024-02-29"), 19_782)],
    *[(DATE, value, Refused("time of day or a zone")) for value in (NOON, NOON.replace(tzinfo=UTC))],
    *[(DATE, value, ANY) for value in (1.5, "2024-02-29", ID, pd.NaT)],
    (DATE, dt.date(1, 1, 1), dt.date(1, 1, 1)),
    *[(MICROS, value, NOON.replace(tzinfo=UTC)) for value in (NOON, pd.Timestamp(NOON), np.datetime64(NOON))],
    (MICROS, NOON.replace(tzinfo=PLUS_2), dt.datetime(2024, 2, 29, 10, tzinfo=UTC)),
    (MICROS, Timestamp(0), dt.datetime(1970, 1, 1, tzinfo=UTC)),
    (MICROS, dt.datetime(1, 1, 1, microsecond=1), dt.datetime(1, 1, 1, microsecond=1, tzinfo=UTC)),
    *[(MICROS, value, FINE) for value in (pd.Timestamp(5), np.datetime64(5, "ns"))],
    *[(MICROS, value, ANY) for value in (DAY, 1.5, "x", dt.time(1), None)],
    (MILLIS, NOON.replace(microsecond=5_000), NOON.replace(microsecond=5_000, tzinfo=UTC)),
    (MILLIS, NOON.replace(microsecond=5), FINE),
    (LOCAL, NOON, NOON),
    (LOCAL, NOON.replace(tzinfo=PLUS_2), Refused("has a zone")),
    (TIME_MICROS, dt.time(1, 2, 3, 4), dt.time(1, 2, 3, 4)),
    (TIME_MILLIS, dt.time(1, 2, 3, 4), FINE),
    *[(kind, dt.time(1, tzinfo=UTC), Refused("has a zone")) for kind in (TIME_MILLIS, TIME_MICROS)],
    *[(UUID, value, ID) for value in (ID, str(ID))],
    *[(UUID, value, ANY) for value in ("x", 7, None)],
    ({"type": "array", "items": "int"}, (np.int64(1), 2.0), [1, 2]),
    ({"type": "array", "items": "int"}, np.array([1, 2]), [1, 2]),
    *[({"type": "array", "items": "int"}, value, ANY) for value in ([1.5], "ab", {1}, None)],
    ({"type": "map", "values": "int"}, {"a": np.int8(1)}, {"a": 1}),
    *[({"type": "map", "values": "int"}, value, ANY) for value in ({1: 2}, {"a": 1.5}, [("a", 1)], {"\ud800": 1})],
    *[(POINT, value, {"x": 1}) for value in ({"x": 1}, Point(1))],
    (POINT, {"x": 1, "y": 2}, Refused("the schema has no field 'y', only x")),
    (POINT, {}, Refused("field 'x' is missing, and has no default")),
    (POINT, {"x": 2**40}, RANGE),
    *[(POINT, value, ANY) for value in ((1,), 1, None)],
    (BLOB, {}, {"b": b"\xff"}),
    ({"type": "array", "items": BLOB}, [{}, {"b": b"a"}], [{"b": b"\xff"}, {"b": b"a"}]),
    (NODE, {"v": 1, "next": {"v": 2}}, {"v": 1, "next": {"v": 2, "next": None}}),
    (NODE, {"v": 1, "next": {"v": 2**40}}, RANGE),
    *[(["null", "int"], value, None) for value in (None, pd.NA, pd.NaT, np.datetime64("NaT"), MISSING)],
    (["null", "int"], 2**40, RANGE),
    (["null", "int"], 1.5, WHOLE),
    (["int", "long"], 2**40, 2**40),
    (["int", "string"], True, Refused("one of int, string")),
    (["float", "double"], 0.1, 0.1),
    (["double", "long"], 2**60 + 1, 2**60 + 1),
    (["null", DEC], Decimal("1.2"), Decimal("1.20")),
    (["null", DEC], Decimal("1.234"), Refused("behind the point")),
    (["null", MICROS], NOON, NOON.replace(tzinfo=UTC)),
    (["null", "string", COLOUR], "GREEN", "GREEN"),
    (["null", POINT, BLOB], {"x": 1}, {"x": 1}),
    (["null", POINT, BLOB], {"b": b"a"}, {"b": b"a"}),
    (["null", POINT], {"x": 1, "y": 2}, Refused("no field 'y'")),
    (["int", "string"], ("string", "a"), "a"),
    (["int", "string"], ("int", 1.5), ANY),
]


def _schema(kind: Any, **field: Any) -> dict[str, Any]:
    fields = [{"name": "id", "type": "int"}, {"name": "x", "type": kind, **field}]
    return {"type": "record", "name": "R", "fields": fields}


def _shown(value: Any) -> str:
    # A view shows its address, which is another one in each process that runs tests.
    return str(bytes(value) if isinstance(value, memoryview) else value)


def _name(case: tuple[Any, Any, Any]) -> str:
    kind, value, _ = case
    what = kind.get("logicalType", kind["type"]) if isinstance(kind, dict) else str(kind)
    return f"{what[:24]}-{type(value).__name__}-{_shown(value)[:16]}".encode("ascii", "replace").decode()


def _write(folder: Path, schema: Any, rows: list[Any]) -> list[Any]:
    (sink,) = Driver(sink_of(WriteAvro(str(folder / "out"), schema)), folder / "state").start(Checkpoint())
    for row in rows:
        sink.process(row)
    sink.commit(sink.prepare(1))
    (path,) = (folder / "out").glob("part-*")
    with path.open("rb") as file:
        return list(fastavro.reader(file))


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_a_value_in_avro(tmp_path: Path, case: tuple[Any, Any, Any]) -> None:
    kind, value, wanted = case
    row = {"id": 2} if value is MISSING else {"id": 2, "x": value}
    if isinstance(wanted, Refused):
        with pytest.raises(
            ValueError, match=r"file '.*out.*does not fit the Avro schema: .*The row: {'id': 2"
        ) as caught:
            _write(tmp_path, _schema(kind), [row])
        assert "'x" in str(caught.value)
        assert wanted in str(caught.value)
        return
    found = _write(tmp_path, _schema(kind), [row])[0]["x"]
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("kind", "default", "wanted"),
    [
        (DEC, "\u0001\u0002", Decimal("2.58")),
        ("bytes", "\u00ff", b"\xff"),
        (FIXED, "ab", b"ab"),
        (["bytes", "null"], "\u00ff", b"\xff"),
        ([DEC, "null"], "\u0001", Decimal("0.01")),
        (["null", "bytes"], None, None),
        (BLOB, {"b": "\u00fe"}, {"b": b"\xfe"}),
        (BLOB, {}, {"b": b"\xff"}),
        ({"type": "array", "items": "bytes"}, ["\u00ff"], [b"\xff"]),
        ({"type": "map", "values": DEC}, {"a": "\u0001"}, {"a": Decimal("0.01")}),
        (DATE, 1, dt.date(1970, 1, 2)),
        (MICROS, 1_000_000, dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("int", 7, 7),
        ("double", 1, 1.0),
        ("string", "a", "a"),
        (COLOUR, "BLUE", "BLUE"),
    ],
)
def test_a_missing_field_has_its_default(tmp_path: Path, kind: Any, default: Any, wanted: Any) -> None:
    rows = [{"id": 1}, {"id": np.int64(2)}]
    found = [row["x"] for row in _write(tmp_path, _schema(kind, default=default), rows)]
    assert found == [wanted, wanted]
    assert type(found[0]) is type(wanted)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"id": 1, "x": {"p": [{"x": 1}, {"x": 1.5}]}}, r"column 'x.p\[1\].x' is int, and float 1.5 is not"),
        ({"id": 1, "x": {"p": []}, "y": 2}, "the schema has no field 'y', only id, x"),
        ({"id": 2**40, "x": {"p": []}}, f"column 'id' is int, and int {2**40} is not"),
        ((1, 2), "make it a dict or a NamedTuple"),
    ],
)
def test_the_place_of_a_misfit(tmp_path: Path, row: Any, why: str) -> None:
    inner = {"type": "record", "name": "I", "fields": [{"name": "p", "type": {"type": "array", "items": POINT}}]}
    with pytest.raises(ValueError, match=why):
        _write(tmp_path, _schema(inner), [row])


@pytest.mark.parametrize("path", ["a.avro", "folder"])
@pytest.mark.parametrize("value", [1.5, 2**40, "\ud800"])
def test_the_record_is_named_by_a_job(tmp_path: Path, path: str, value: Any) -> None:
    rows = [{"id": n, "x": value if n == 50 else 3} for n in range(100)]
    if isinstance(value, str):
        rows = [{"id": n, "x": value if n == 50 else "a"} for n in range(100)]
    sink = WriteAvro(str(tmp_path / path), _schema("string" if isinstance(value, str) else "int"))
    with pytest.raises(Exception, match="column 'x'") as caught, beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create([0]) | beam.FlatMap(lambda _: rows) | sink
    for part in (str(tmp_path / path), "'id': 50", "WriteAvro"):
        assert part in str(caught.value)
    assert not list(tmp_path.rglob("*.avro"))


@pytest.mark.parametrize("codec", ["zip", "", None, 7, "Deflate"])
def test_a_codec_that_is_none_is_refused_at_once(codec: Any) -> None:
    with pytest.raises(ConfigError, match=r"codec=.* cannot be used"):
        WriteAvro("out", _schema("int"), codec=codec)


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz", "snappy", "zstandard", "lz4"])
def test_a_codec_works_or_is_refused_at_once(tmp_path: Path, codec: str) -> None:
    def made() -> beam.PTransform:
        return WriteAvro(str(tmp_path / "a.avro"), _schema("int"), codec=codec)

    try:
        fastavro.writer(io.BytesIO(), _schema("int"), [{"id": 1, "x": 1}], codec)
    except ValueError:
        with pytest.raises(ConfigError, match="you need to install"):
            made()
        return
    sink = made()
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create([{"id": 1, "x": 2}]) | sink
    with (tmp_path / "a.avro").open("rb") as file:
        assert list(fastavro.reader(file)) == [{"id": 1, "x": 2}]


@pytest.mark.parametrize(
    "kind",
    [
        "nothing", {"type": "enum", "name": "E", "symbols": []}, {"type": "fixed", "name": "F", "size": -1},
        {"type": "record", "name": "P", "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]},
        {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 5},
    ],
)  # fmt: skip
def test_a_schema_that_no_record_fits_is_refused_at_once(kind: Any) -> None:
    with pytest.raises(ConfigError):
        WriteAvro("out", _schema(kind))


@pytest.mark.parametrize(("kind", "default"), [("int", 2**40), ("bytes", "\u0100"), (FIXED, "abc"), ("int", "a")])
def test_a_default_of_another_type_is_refused_at_once(kind: Any, default: Any) -> None:
    with pytest.raises(ConfigError):
        WriteAvro("out", _schema(kind, default=default))


def test_records_of_known_shapes_are_not_looked_at_again() -> None:
    records = AvroRecords(fastavro.parse_schema(_schema(["null", "string"])))
    row = {"id": 1, "x": "a"}
    assert records.fit(row) is row
    with pytest.raises(ValueError, match="column 'id' is int"):
        records.fit({"id": 2**31, "x": "a"})
    for n in range(3_000):
        with pytest.raises(ValueError, match="no field"):
            records.fit({"id": 1, f"x{n}": "a"})
    assert len(records._shapes) <= 1_000
