"""Joins against SQL: DuckDB joins the same random rows, with NULLs, duplicates and keys of several types."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections import Counter
from functools import partial
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.transforms.window import FixedWindows
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sage.transforms.joins import AsOfJoin, IntervalJoin, Join, MergeColumns, TableJoin
from tests.models.cluster import Sink
from tests.models.timeline import Bounded, Endless, Keep, Timeline, run, texts

duckdb = pytest.importorskip("duckdb")

# An example is several pipelines; to make a failing one smaller would take minutes.
FEW = settings(max_examples=15, deadline=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
HOWS = ("inner", "left", "right", "full", "semi", "anti")
UTC = datetime.timezone.utc
NOON = datetime.datetime(2024, 2, 29, 12)
POOLS: dict[str, list[Any]] = {
    "INTEGER": [0, 1, -1, 2**31 - 1],
    "BIGINT": [0, 1, 2**62],
    "DOUBLE": [0.0, -0.0, 1.0, 1.5, float("nan"), float("inf")],
    "DECIMAL(18, 3)": [decimal.Decimal(text) for text in ("0", "1.0", "1.000", "1.5", "0.001")],
    "BOOLEAN": [True, False],
    "VARCHAR": ["", "a", "A", "1", "é"],
    "BLOB": [b"", b"a", b"\0"],
    "DATE": [datetime.date(2024, 2, 29), datetime.date(1969, 12, 31)],
    "TIMESTAMP": [NOON, NOON + datetime.timedelta(microseconds=1)],
    "TIMESTAMPTZ": [NOON.replace(tzinfo=UTC), NOON.astimezone(datetime.timezone(datetime.timedelta(hours=2)))],
    "UUID": [uuid.UUID(int=number) for number in (0, 1)],
}
# Columns of two types that SQL compares by value.
MIXED = [("INTEGER", "DOUBLE"), ("BIGINT", "INTEGER"), ("DOUBLE", "BIGINT"), ("DECIMAL(18, 3)", "INTEGER")]
TYPES = [(kind, kind) for kind in POOLS] + MIXED


def rows_of(name: str, types: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows with a column for each type and a number of their own."""
    keys = st.tuples(*(st.none() | st.sampled_from(POOLS[kind]) for kind in types))
    columns = [f"k{number}" for number in range(len(types))]
    return st.lists(keys, max_size=12).map(
        lambda found: [dict(zip([*columns, name], (*key, i), strict=True)) for i, key in enumerate(found)]
    )


@st.composite
def tables(draw: Any) -> Any:
    """Two tables, with the types of their key columns."""
    types = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=2))
    ours, theirs = [kind for kind, _ in types], [kind for _, kind in types]
    return ours, theirs, draw(rows_of("x", ours)), draw(rows_of("y", theirs))


def sql(query: str, **given_tables: tuple[dict[str, str], list[dict[str, Any]]]) -> Counter[Any]:
    """What a query gives; each table is its columns with their types, and its rows."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, (columns, rows) in given_tables.items():
            made = ", ".join(f"{column} {kind}" for column, kind in columns.items())
            connection.execute(f"CREATE TABLE {name} ({made})")
            for row in rows:
                connection.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", list(row.values()))
        return Counter(tuple(map(plain, row)) for row in connection.execute(query).fetchall())


def plain(value: Any) -> Any:
    """A value in a form in which equal ones look alike."""
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return str(value.astimezone(UTC))
    if isinstance(value, (bool, int, float, decimal.Decimal)):
        return "nan" if value != value else float(value)
    return value


def joined_by_sql(how: str, on: list[str], ours: Any, theirs: Any) -> Counter[Any]:
    return sql(f"SELECT * FROM l {how} JOIN r USING ({', '.join(on)})", l=ours, r=theirs)


@FEW
@given(tables())
def test_a_join_on_columns_is_sqls(case: Any) -> None:
    ours, theirs, lefts, rights = case
    on = [f"k{number}" for number in range(len(ours))]

    def build(p: beam.Pipeline) -> None:
        left = p | "l" >> beam.Create(lefts, reshuffle=False)
        right = p | "r" >> beam.Create(rights, reshuffle=False)
        for how in HOWS:
            made = (left, right) | how >> Join(on=on, how=how)
            if how not in ("semi", "anti"):
                made = made | f"{how} rows" >> MergeColumns(on=on, left=[*on, "x"], right=[*on, "y"])
            made | f"{how} put" >> beam.Map(lambda row, how: Sink.put((how, tuple(map(plain, row.values())))), how)

    run(build)
    left_columns = {**dict(zip(on, ours, strict=True)), "x": "INTEGER"}
    right_columns = {**dict(zip(on, theirs, strict=True)), "y": "INTEGER"}
    for how in HOWS:
        expected = joined_by_sql(how, on, (left_columns, lefts), (right_columns, rights))
        found = Counter({row: count for (name, row), count in Sink.found.items() if name == how})
        assert found == expected, how


KEYS = st.none() | st.sampled_from(["a", "b"])
TIMES = st.integers(0, 20)
PAIRS = {"k": "VARCHAR", "v": "INTEGER", "t": "INTEGER"}


@st.composite
def timelines(draw: Any) -> Any:
    """Events of two sides in any order, with watermarks that none of them is behind."""
    events = draw(st.lists(st.tuples(st.sampled_from(["left", "right"]), KEYS, TIMES), max_size=16))
    events = [(side, (key, number), time) for number, (side, key, time) in enumerate(events)]
    # As-of is undefined where two right rows have one time: the later of them goes.
    seen: set[Any] = set()
    events = [e for e in events if e[0] == "left" or not ((e[1][0], e[2]) in seen or seen.add((e[1][0], e[2])))]
    parts: list[Any] = []
    mark = -1
    for place, event in enumerate(events):
        parts.append([event])
        least = min((time for *_, time in events[place + 1 :]), default=21)
        if least > mark and draw(st.booleans()):
            mark = least
            parts.append(mark)
    return parts


def as_tables(events: Any) -> dict[str, Any]:
    rows = [event for part in events if isinstance(part, list) for event in part]
    return {
        name: (PAIRS, [{"k": key, "v": value, "t": time} for where, (key, value), time in rows if where == side])
        for name, side in (("l", "left"), ("r", "right"))
    }


def told(found: Counter[Any], one_sided: bool) -> Counter[Any]:
    """Pairs that were joined as SQL gives them: (left number, right number)."""
    made: Counter[Any] = Counter()
    for text, count in texts(found).items():
        _, value = eval(text)
        made[(float(value),) if one_sided else tuple(map(plain, value))] += count
    return made


def in_all_ways(events: Any, joins: dict[str, Any]) -> dict[str, dict[str, Counter[Any]]]:
    """What the joins give as streams and as batches; and a check that nothing of it is late."""

    def build(source: Any) -> Any:
        def made(p: beam.Pipeline) -> None:
            sides = p | source
            for name, join in joins.items():
                rows = sides | name >> join()
                rows | Keep(name)
                counted = rows | f"{name} windows" >> beam.WindowInto(FixedWindows(0.000001))
                counted = counted | f"{name} one" >> beam.Map(lambda row: (repr(row), 1))
                counted | f"{name} count" >> beam.CombinePerKey(sum) | Keep(f"{name} in windows")

        return made

    return {"stream": run(build(Timeline(events))), "batch": run(build(Bounded(events)))}


def none_was_late(found: dict[str, Counter[Any]], name: str) -> bool:
    counted = sum(eval(text)[1] * count for (text, _), count in found.get(f"{name} in windows", Counter()).items())
    return bool(counted == sum(found.get(name, Counter()).values()))


@FEW
@given(timelines(), st.integers(-3, 5), st.integers(0, 5))
def test_an_interval_join_is_sqls(events: Any, before: int, more: int) -> None:
    after = more - before
    ways = in_all_ways(events, {how: partial(IntervalJoin, before=before, after=after, how=how) for how in HOWS})
    for how in HOWS:
        one_sided = how in ("semi", "anti")
        columns = "l.v" if one_sided else "l.v, r.v"
        near = f"l.k = r.k AND r.t BETWEEN l.t - {before} AND l.t + {after}"
        expected = sql(f"SELECT {columns} FROM l {how} JOIN r ON {near}", **as_tables(events))
        for way, found in ways.items():
            assert told(found.get(how, Counter()), one_sided) == expected, (how, way)
            assert none_was_late(found, how), (how, way)
        if how != "semi":  # Its time is that of the partner that came first.
            assert ways["stream"].get(how) == ways["batch"].get(how), how


@FEW
@given(timelines(), st.none() | st.integers(0, 6))
def test_an_as_of_join_is_sqls(events: Any, tolerance: int | None) -> None:
    ways = in_all_ways(events, {how: partial(AsOfJoin, tolerance=tolerance, how=how) for how in ("inner", "left")})
    for how in ("inner", "left"):
        newest = "CASE WHEN l.t - r.t <= $1 THEN r.v END".replace("$1", str(10**6 if tolerance is None else tolerance))
        query = f"SELECT l.v, {newest} AS y FROM l ASOF LEFT JOIN r ON l.k = r.k AND l.t >= r.t"
        query = query if how == "left" else f"SELECT * FROM ({query}) WHERE y IS NOT NULL"
        expected = sql(query, **as_tables(events))
        for way, found in ways.items():
            assert told(found.get(how, Counter()), False) == expected, (how, way)
            assert none_was_late(found, how), (how, way)
        assert ways["stream"].get(how) == ways["batch"].get(how), how


@FEW
@given(timelines())
def test_a_table_at_its_end_is_joined_as_by_sql(events: Any) -> None:
    hows = ("inner", "left", "semi", "anti")

    def build(p: beam.Pipeline) -> None:
        sides = p | Bounded(events)
        for how in hows:
            sides | how >> TableJoin(how=how) | Keep(how)

    found = run(build)
    for how in hows:
        one_sided = how in ("semi", "anti")
        now = "(SELECT k, arg_max(v, t) AS v FROM r GROUP BY k) AS r"
        expected = sql(
            f"SELECT {'l.v' if one_sided else 'l.v, r.v'} FROM l {how} JOIN {now} ON l.k = r.k", **as_tables(events)
        )
        assert told(found.get(how, Counter()), one_sided) == expected, how


@FEW
@given(timelines())
def test_a_table_as_a_side_input_is_joined_as_by_sql(events: Any) -> None:
    hows = ("inner", "left", "semi", "anti")

    def build(p: beam.Pipeline) -> None:
        left, right = p | Bounded(events)
        for how in hows:
            (left | f"{how} endless" >> Endless(), right) | how >> TableJoin(how=how, table_as="side") | Keep(how)

    found = run(build)
    for how in hows:
        one_sided = how in ("semi", "anti")
        columns = "l.v" if one_sided else "l.v, r.v"
        expected = sql(f"SELECT {columns} FROM l {how} JOIN r ON l.k = r.k", **as_tables(events))
        assert told(found.get(how, Counter()), one_sided) == expected, how
