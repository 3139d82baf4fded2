from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import apache_beam as beam
import psycopg
import pytest

from sage.errors import CheckpointError, ConfigError, DataLoss
from sage.runners.local import LocalRunner
from sage.transforms.io import WriteToPostgres
from tests.models.two_phase import Checkpoint, Driver, sink_of

COLUMNS = {"id": "integer", "name": "text", "on": "date"}
DAY = datetime.date(2024, 2, 29)


def _write(rows: list[Any], dsn: str, table: str = "people", columns: Any = COLUMNS, key: Any = None) -> None:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create(rows) | WriteToPostgres(dsn, table, columns, key)


def _sql(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def _rows(dsn: str) -> list[tuple[Any, ...]]:
    return _sql(dsn, "SELECT * FROM people ORDER BY 1, 2")


def test_rows_with_a_key_are_inserted_and_updated(postgres: str) -> None:
    _write([{"id": 1, "name": "Ada", "on": DAY}, {"id": 2, "name": "Bo"}], postgres, key=["id"])
    assert _rows(postgres) == [(1, "Ada", DAY), (2, "Bo", None)]
    _write([{"id": 2, "name": "Bob"}, {"id": 3}, {"id": 3, "name": "Cy"}], postgres, key=["id"])
    assert _rows(postgres) == [(1, "Ada", DAY), (2, "Bob", None), (3, "Cy", None)]
    _write([], postgres, "empty", key=["id"])
    assert _sql(postgres, "SELECT * FROM empty") == []


def test_rows_without_a_key_are_added(postgres: str) -> None:
    _write([{"id": n, "on": DAY} for n in range(6_000)], postgres)
    _write([{"id": 1, "name": "Ada"}], postgres)
    assert len(_rows(postgres)) == 6_001
    assert _rows(postgres)[1:3] == [(1, "Ada", None), (1, None, DAY)]


def test_rows_are_seen_when_their_checkpoint_is_durable(postgres: str, tmp_path: Path) -> None:
    sink = sink_of(WriteToPostgres(postgres, "people", COLUMNS))
    (one,) = Driver(sink, tmp_path / "checkpoint").start(Checkpoint())
    one.process({"id": 1})
    handle = one.prepare(1)
    one.process({"id": 2})
    assert _rows(postgres) == []
    one.commit(handle)
    one.commit(handle)
    assert _rows(postgres) == [(1, None, None)]
    later = one.prepare(2)
    (staged,) = _staged(postgres)
    _sql(postgres, f"DELETE FROM {staged}")
    with pytest.raises(DataLoss, match=r"of 1 rows for table 'people'.*0 are in 'people_sage_"):
        one.commit(later)
    one.teardown()


def _staged(dsn: str) -> list[str]:
    return [name for (name,) in _sql(dsn, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'people\\_sage%'")]


def test_going_on_from_an_older_checkpoint_would_add_rows_twice(postgres: str, tmp_path: Path) -> None:
    driver = Driver(sink_of(WriteToPostgres(postgres, "people", COLUMNS)), tmp_path / "checkpoint", every=1)
    rows = [{"id": n} for n in range(3)]
    driver.run(rows, until=1)
    older = (tmp_path / "checkpoint").read_bytes()
    driver.run(rows)
    (tmp_path / "checkpoint").write_bytes(older)
    with pytest.raises(CheckpointError, match="rows of epochs up to 3"):
        driver.run(rows)


def test_a_table_of_ones_own_keeps_its_defaults_and_checks(postgres: str) -> None:
    _sql(
        postgres,
        "CREATE TABLE people (id integer GENERATED ALWAYS AS IDENTITY, name text NOT NULL CHECK (name <> ''), "
        "about jsonb, made integer DEFAULT 7)",
    )
    _write([{"name": "Ada", "about": {"a": [1]}}, {"name": "Bo"}], postgres, columns=["name", "about"])
    assert [row[1:] for row in _rows(postgres)] == [("Ada", {"a": [1]}, 7), ("Bo", None, 7)]
    for name, why in (("", "check constraint"), (None, "not-null constraint")):
        with pytest.raises(Exception, match=rf"PostgreSQL.*a row does not fit its table: .*{why}"):
            _write([{"name": name}], postgres, columns=["name"])


def test_names_are_data_not_sql(postgres: str) -> None:
    columns = {'i"d': "integer", "100%": "text", "select": "text"}
    for key in (None, ['i"d']):
        table = f"odd %s table {len(key or ())}"
        _write([{'i"d': 1, "100%": "x"}], postgres, table, columns, key)
        assert _sql(postgres, f'SELECT * FROM "{table}"') == [(1, "x", None)]


def test_a_table_in_a_schema(postgres: str) -> None:
    ((schema,),) = _sql(postgres, "SELECT current_schema")
    _write([{"id": 1}], postgres.replace(schema, "public"), f"{schema}.people")
    assert _rows(postgres) == [(1, None, None)]


@pytest.mark.parametrize("key", [None, ["id"]])
@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([{"id": "seven"}], r"a row does not fit its table: invalid input syntax for type integer: \"seven\""),
        ([{"id": {1, 2}}], "column 'id' cannot store set .*cannot adapt type 'set'"),
        ([{"id": 1, "nmae": "Ada"}], "a row has a column 'nmae'.*did you mean 'name'"),
    ],
)
def test_rows_that_do_not_fit(postgres: str, key: Any, rows: list[Any], why: str) -> None:
    with pytest.raises(Exception, match=why):
        _write(rows, postgres, key=key)
    assert _rows(postgres) == []


@pytest.mark.parametrize(
    ("columns", "key", "why"),
    [
        (["id", "nmae"], None, r'column "nmae" .* does not exist\. Make it, name another'),
        (["id", "name"], ["id"], "no unique .*CREATE UNIQUE INDEX"),
    ],
)
def test_a_table_that_does_not_fit(postgres: str, columns: Any, key: Any, why: str) -> None:
    _sql(postgres, "CREATE TABLE people (id integer, name text)")
    with pytest.raises(Exception, match=why):
        _write([{"id": 1}], postgres, columns=columns, key=key)


def test_a_table_that_is_not_there(postgres: str) -> None:
    with pytest.raises(Exception, match=r'relation "people" does not exist\. .*give the columns with their types'):
        _write([{"id": 1}], postgres, columns=["id"])
    with pytest.raises(Exception, match=r'type "integr" does not exist\. Check the table, its columns'):
        _write([{"id": 1}], postgres, columns={"id": "integr"})


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    dsn = f"postgresql://ada:secret@/db?host={tmp_path}"
    with pytest.raises(
        Exception, match=r"PostgreSQL host=.* dbname=db user=ada cannot be used: .*No such file"
    ) as told:
        _write([{"id": 1}], dsn)
    assert "secret" not in str(told.value)
    with pytest.raises(ConfigError, match="not how to connect to PostgreSQL"):
        WriteToPostgres("postgresql://[", "people", COLUMNS)


def test_a_user_without_rights_is_told_which(postgres: str) -> None:
    _sql(postgres, "CREATE TABLE people (id integer)")
    ((schema,),) = _sql(postgres, "SELECT current_schema")
    _sql(postgres, f"CREATE ROLE guest_{schema} LOGIN; GRANT USAGE ON SCHEMA {schema} TO guest_{schema}")
    try:
        with pytest.raises(Exception, match=r"permission denied for .*Grant the right to this user"):
            _write([{"id": 1}], f"{postgres} user=guest_{schema}", columns=["id"])
    finally:
        _sql(postgres, f"DROP OWNED BY guest_{schema}; DROP ROLE guest_{schema}")


def test_a_connection_that_was_cut_is_made_again(postgres: str, tmp_path: Path) -> None:
    (sink,) = Driver(sink_of(WriteToPostgres(postgres, "people", COLUMNS)), tmp_path / "c").start(Checkpoint())
    sink.process({"id": 1})
    _sql(
        postgres,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'sage' AND pid <> pg_backend_pid() AND datname = current_database()",
    )
    sink.commit(sink.prepare(1))
    assert _rows(postgres) == [(1, None, None)]
    sink.teardown()
