from __future__ import annotations

import datetime
import json

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms.clean import Clean, Column, KeepFirst, TableSchema
from sage.transforms.io import Located

UTC = datetime.timezone.utc


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("integer", " 7 ", 7),
        ("integer", -(2**63), -(2**63)),
        ("number", "1.5e3", 1500.0),
        ("number", 2, 2.0),
        ("string", "  x ", "x"),
        ("boolean", "Yes", True),
        ("boolean", False, False),
        ("date", "2024-02-29", datetime.date(2024, 2, 29)),
        ("timestamp", "2024-02-29T12:00:00Z", datetime.datetime(2024, 2, 29, 12, tzinfo=UTC)),
        ("timestamp", "2024-02-29 12:00", datetime.datetime(2024, 2, 29, 12, tzinfo=UTC)),
        ("timestamp", "2024-02-29T12:00:00.5+02:00", datetime.datetime(2024, 2, 29, 10, 0, 0, 500_000, UTC)),
        ("integer", "", None),
        ("integer", None, None),
    ],
)
def test_values_that_fit(kind: str, raw: object, value: object) -> None:
    read = Column("x", kind).read(raw)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "raw", "why"),
    [
        ("integer", "1_000", "is not an integer"),
        ("integer", "1.0", "is not an integer"),
        ("integer", True, "is not an integer"),
        ("integer", "9223372036854775808", "does not fit in 64 bits"),
        ("number", "nan", "is not a number"),
        ("number", float("inf"), "is not a finite number"),
        ("number", "1e999", "is not a finite number"),
        ("number", 10**400, "is not a finite number"),
        ("string", 7, "is not text"),
        ("boolean", "maybe", "is not true or false"),
        ("date", "2024-02-30", "is not a day of the calendar"),
        ("date", "20240229", "is not a date like"),
        ("timestamp", "2024-02-29", "is not a time like"),
        ("timestamp", "2024-02-29T25:00:00Z", "is not a time that exists"),
    ],
)
def test_values_that_do_not(kind: str, raw: object, why: str) -> None:
    with pytest.raises(ValueError, match=f"^x: .* {why}"):
        Column("x", kind).read(raw)


def test_limits_and_choices() -> None:
    column = Column.from_config({"name": "n", "type": "integer", "min": "1", "max": 9}, "test")
    assert column.read("9") == 9
    with pytest.raises(ValueError, match=r"n: '0' is below the least, 1"):
        column.read("0")
    with pytest.raises(ValueError, match=r"n: 10 is above the greatest, 9"):
        column.read(10)
    with pytest.raises(ValueError, match=r"c: 'DEU' is above the greatest, 2 characters"):
        Column("c", max=2).read("DEU")
    with pytest.raises(ValueError, match=r"s: 'lost' is none of open, paid"):
        Column("s", choices=("open", "paid")).read("lost")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"columns": [{"name": "a", "tpye": "integer"}]}, "unknown key 'tpye'; a column has name, type"),
        ({"columns": [{"name": "a", "type": "int"}]}, "column 'a' has type 'int'; types are integer"),
        ({"columns": [{"type": "integer"}]}, "a column needs a name"),
        ({"columns": [{"name": "a", "type": "date", "min": "soon"}]}, "min of column 'a': 'soon' is not a date"),
        ({"columns": []}, "it needs columns"),
        ({"columns": [{"name": "a"}, {"name": "a"}]}, "each with a name of its own"),
        ({"columns": [{"name": "a"}], "key": ["a"]}, "must name one or more required columns"),
    ],
)
def test_a_wrong_schema_is_an_error_that_names_the_place(config: dict, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        TableSchema.from_config(config, "people.json")
    assert str(caught.value).startswith("people.json: ")


SCHEMA = TableSchema((Column("id", "integer", required=True), Column("at", "timestamp"), Column("name")), ("id",))


def test_all_faults_of_a_record_are_told_at_once() -> None:
    records = [
        Located("a.csv", 2, {"id": "1", "at": "2024-02-29T12:00:00Z", "name": "x", "more": "left out"}),
        Located("a.csv", 3, {"id": "", "at": "noon"}),
    ]
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        good, dead = pipeline | beam.Create(records) | Clean(SCHEMA)
        at = datetime.datetime(2024, 2, 29, 12, tzinfo=UTC)
        assert_that(good, equal_to([Located("a.csv", 2, {"id": 1, "at": at, "name": "x"})]), label="good")
        told = dead | beam.Map(lambda letter: (letter.source, letter.line, letter.reason, json.loads(letter.payload)))
        reason = "id is missing; at: 'noon' is not a time like 2024-02-29T12:30:00Z"
        assert_that(told, equal_to([("a.csv", 3, reason, {"id": "", "at": "noon"})]), label="dead")


def test_the_first_by_file_and_line_stays() -> None:
    records = [
        Located(source, line, {"id": 1, "on": datetime.date(2024, 2, 29)})
        for source, line in (("b.csv", 2), ("a.csv", 10), ("a.csv", 9))
    ]
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        good, dead = pipeline | beam.Create(records) | KeepFirst(["id", "on"])
        assert_that(good, equal_to([records[2]]), label="good")
        reason = "id=1, on=2024-02-29 is already in a.csv:9"
        places = dead | beam.Map(lambda letter: (letter.source, letter.line, letter.reason))
        assert_that(places, equal_to([("a.csv", 10, reason), ("b.csv", 2, reason)]), label="dead")


def test_the_schema_for_sql_and_for_arrow() -> None:
    assert SCHEMA.sql_columns() == {"id": "INTEGER", "at": "TEXT", "name": "TEXT"}
    assert SCHEMA.arrow_schema() == pa.schema(
        [("id", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("name", pa.string())]
    )


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"columns": [{"name": "a", "required": "no"}], "key": ["a"]}, "'required' must be bool, not 'no' (str)"),
        ({"columns": [{"name": "a", "choices": "xy"}], "key": ["a"]}, "'choices' must be list | tuple, not 'xy' (str)"),
        ({"columns": {"name": "a"}, "key": ["a"]}, "'columns' must be list[dict[str, Any]] | tuple[Any, ...], not "),
        ({"columns": [{"name": "a", "required": True}], "key": "a"}, "'key' must be list[str] | tuple[str, ...], not"),
    ],
)
def test_a_config_value_of_another_type_is_refused(config, told):
    with pytest.raises(ConfigError) as caught:
        TableSchema.from_config(config, "orders")
    assert told in str(caught.value)
    assert str(caught.value).startswith("orders")
