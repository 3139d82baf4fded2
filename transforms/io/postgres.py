"""Rows into a PostgreSQL table, upserted by key or added exactly once."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sage.errors import ConfigError, MissingExtra
from sage.transforms.dead_letter import shorten
from sage.transforms.io.rows import TableSink
from sage.transforms.io.scalars import plain, type_name
from sage.transforms.io.tables import Database, Dialect, Table

__all__ = ["WriteToPostgres"]

# Two sessions that make one table at the same time would fail on each other. Any number that others do not use.
_MAKING_TABLES = 0x5A6E


class WriteToPostgres(TableSink):
    """Write mappings or NamedTuples into one table of a PostgreSQL database.

    **With a key** rows are upserted: a key that is there is updated, one that is not is added. Up to 5,000 rows of a
    bundle are one transaction. Promise, on every runner: a repetition upserts the same keys again, so the table ends
    the same. Rows can be seen before their checkpoint is durable. Two input rows with one key: either may win, unless
    one worker gets both in order. Rows that an earlier run wrote and this one does not are left where they are.

    **Without a key** each row is added once. Rows are staged in a table beside, by ``COPY``, and moved in one
    transaction with a note of it (see `sage.transforms.io.tables`). Promise: on SAGE's local runner exactly once, seen
    when the checkpoint is durable, or without checkpoints all at the end (of input that ends); on other runners a
    bundle's rows are added in one transaction, and a bundle that is repeated may add them twice. A job that begins anew
    adds to what is there.

    Input: mappings or NamedTuples with the columns of the table (a missing one is NULL; an unknown one, or
    NULL in the key, fails the step); a dict becomes JSON. Output: with a key how many rows each transaction carried
    (count), once it is committed; without one nothing.

    Needs the extra ``postgres`` (psycopg 3) and PostgreSQL 12 or newer. Without a key the user must be allowed to make
    tables in the schema of the table.

    Args:
        dsn: how to connect, as ``postgresql://user@host/database`` or ``host=... dbname=...``; what it leaves out is
            taken from the environment (``PGHOST``, ``PGPASSWORD`` ...) of each worker.
        table: the table, with its schema if it is not found by the search path: ``sales.orders``.
        columns: column name to SQL type, in order, to have the table made where it is missing; or the names of the
            columns to write, of a table that is there.
        key: the columns to upsert by, which must have a unique index; None to add rows.

    Raises:
        ConfigError: the dsn is none, or the key is not among the columns (when constructed); the table or a column is
            missing, or the key has no unique index (when run).
        MissingExtra: psycopg is not installed.
        OSError: the server cannot be reached or written to (when run).
        ValueError: a row does not fit the table (when run).
        CheckpointError: the job goes on from an older checkpoint, and later rows were added (when run).
    """

    def __init__(
        self, dsn: str, table: str, columns: Mapping[str, str] | Sequence[str], key: Sequence[str] | None = None
    ) -> None:
        super().__init__(_Postgres(dsn), Table.of(table, columns, key))


class _Postgres(Database):
    """State: the open connection, if any; a copy of this in another process opens its own."""

    dialect = Dialect(mark="%s", differs="IS DISTINCT FROM", schemas=True)

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Any = None
        psycopg = _psycopg()
        try:
            known = psycopg.conninfo.conninfo_to_dict(dsn)
        except psycopg.ProgrammingError as error:
            raise ConfigError(
                f"this is not how to connect to PostgreSQL ({str(error).strip()}); "
                "write it as postgresql://user@host/database"
            ) from None
        # Said in messages: everything but the password.
        self._where = "PostgreSQL" + "".join(
            f" {name}={known[name]}" for name in ("host", "port", "dbname", "user") if known.get(name)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_connection": None}

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Any]:
        with self._naming_errors():
            connection = self._connected()
            with connection.transaction(), connection.cursor() as cursor:
                yield cursor

    def make(self, table: Table) -> None:
        sql = self.dialect
        with self.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING_TABLES,))
            if table.types and not self._there(cursor, table.name):
                parts = [f"{sql.quoted(name)} {kind}" for name, kind in zip(table.columns, table.types, strict=True)]
                if table.key:
                    parts.append(f"PRIMARY KEY ({sql.listed(table.key)})")
                cursor.execute(f"CREATE TABLE {sql.table(table.name)} ({', '.join(parts)})", ())
        with self.transaction() as cursor:
            # Fails as the first row would, before there is one: a table, a column or a unique index is missing.
            columns, where = sql.listed(table.columns), sql.table(table.name)
            conflict = f" ON CONFLICT ({sql.listed(table.key)}) DO NOTHING" if table.key else ""
            cursor.execute(f"INSERT INTO {where} ({columns}) SELECT {columns} FROM {where} WHERE false{conflict}", ())

    def make_staging(self, table: Table) -> None:
        sql = self.dialect
        staging, ledger = sql.staging(table), sql.ledger(table)
        with self.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING_TABLES,))
            if not self._there(cursor, staging):
                # With the table's own checks, so that a row that does not fit fails before the checkpoint, not after.
                cursor.execute(
                    f"CREATE TABLE {sql.table(staging)} (sage_job text, sage_step text, sage_subtask integer, "
                    "sage_run text, sage_batch bigint, sage_row bigint, "
                    f"LIKE {sql.table(table.name)} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED "
                    "INCLUDING IDENTITY, PRIMARY KEY (sage_run, sage_batch, sage_row))",
                    (),
                )
            if not self._there(cursor, ledger):
                cursor.execute(
                    f"CREATE TABLE {sql.table(ledger)} (run text PRIMARY KEY, origin text, job text, step text, "
                    "subtask integer, batch bigint, epoch bigint)",
                    (),
                )

    def storable(self, value: Any) -> Any:
        if isinstance(value, dict):
            from psycopg.types.json import Jsonb

            return Jsonb(value, dumps=_JSON)
        if isinstance(value, list):
            return [item if item.__class__ in self.native else self.storable(item) for item in value]
        return plain(value)

    def unstorable(self, value: Any) -> str:
        from psycopg.adapt import PyFormat, Transformer

        if isinstance(value, str) and "\0" in value:
            return "PostgreSQL's text has no NUL characters; remove it, or write bytes into a bytea column"
        reason = super().unstorable(value)
        if value is None or reason:
            return reason
        try:
            Transformer().get_dumper(value, PyFormat.AUTO).dump(value)
        except (_psycopg().Error, ValueError, TypeError) as error:
            return f"{error}; make it a number, text, bytes, a time, or a dict or list of such"
        return ""

    def add(self, cursor: Any, name: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        sql = self.dialect
        # COPY takes no parameters, so a per cent sign is one here.
        into = f"{sql.table(name)} ({sql.listed(columns)})".replace("%%", "%")
        with cursor.copy(f"COPY {into} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Any:
        psycopg = _psycopg()
        connection = self._connection
        if connection is not None and not connection.closed:
            try:
                # A server, or a firewall, ends a connection that was idle for long.
                connection.execute("SELECT 1")
                return connection
            except psycopg.OperationalError:
                connection.close()
        self._connection = psycopg.connect(self._dsn, autocommit=True, application_name="sage")
        _send_numbers_as_literals(self._connection)
        return self._connection

    def _there(self, cursor: Any, name: str) -> bool:
        cursor.execute("SELECT to_regclass(%s)", (self.dialect.table(name).replace("%%", "%"),))
        return cursor.fetchone()[0] is not None

    @contextlib.contextmanager
    def _naming_errors(self) -> Iterator[None]:
        """Makes of what the server says an error that names the database, the cause and what to do."""
        errors = _psycopg().errors
        try:
            yield
        except (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName) as error:
            raise ConfigError(
                f"{self._where}: {_server_message(error)}. Make it, name another, or give the columns with their types "
                "to have the table made"
            ) from error
        except errors.InvalidColumnReference as error:
            raise ConfigError(
                f"{self._where}: {_server_message(error)}. Make one: CREATE UNIQUE INDEX ON the table (the key)"
            ) from error
        except errors.InsufficientPrivilege as error:
            raise OSError(
                f"{self._where}: {_server_message(error)}. Grant the right to this user; to add rows without a key it "
                "must be allowed to make tables in the schema (GRANT CREATE ON SCHEMA)"
            ) from error
        except errors.DiskFull as error:
            raise OSError(
                f"{self._where}: the server's disk is full: {_server_message(error)}. Free some space"
            ) from error
        except (TypeError, UnicodeEncodeError) as error:
            raise ValueError(f"{self._where}: a value cannot be stored: {error}") from error
        except (errors.DataError, errors.IntegrityError, errors.DatatypeMismatch) as error:
            raise ValueError(f"{self._where}: a row does not fit its table: {_server_message(error)}") from error
        except errors.ProgrammingError as error:
            if error.sqlstate is None:  # the driver has no way to send a value of this type
                raise ValueError(f"{self._where}: a value cannot be stored: {_server_message(error)}") from error
            raise ConfigError(
                f"{self._where}: {_server_message(error)}. Check the table, its columns and their types"
            ) from error
        except errors.OperationalError as error:
            raise OSError(
                f"{self._where} cannot be used: {_server_message(error)}. Check that the server runs, and the dsn"
            ) from error


def _send_numbers_as_literals(connection: Any) -> None:
    """Has floats and decimals take the type of their column, as literals do.

    A parameter of a type of its own is cast, and a cast to an integer rounds 1.5 without a word.
    """
    import decimal

    from psycopg.types.numeric import DecimalDumper, FloatDumper

    class FloatLiteral(FloatDumper):
        oid = 0

        def dump(self, obj: float) -> Any:
            # 3.0 is the integer 3, which an integer column takes.
            return b"%.0f" % obj if abs(obj) < 1e15 and obj.is_integer() else super().dump(obj)

    class DecimalLiteral(DecimalDumper):
        oid = 0

    connection.adapters.register_dumper(float, FloatLiteral)
    connection.adapters.register_dumper(decimal.Decimal, DecimalLiteral)


def _json_value(value: Any) -> Any:
    made = plain(value)
    if made.__class__ is not value.__class__:
        return made
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type_name(value)} {shorten(repr(value), 100)} has no JSON form; make it a str or a number")


_JSON = json.JSONEncoder(default=_json_value).encode


def _server_message(error: Any) -> str:
    """What the server said, with the row or column it said it of."""
    primary = error.diag.message_primary or str(error).strip()
    return "; ".join(part for part in (primary, error.diag.message_detail, error.diag.context) if part)


def _psycopg() -> Any:
    try:
        import psycopg
        import psycopg.conninfo
    except ImportError as error:
        raise MissingExtra("writing to PostgreSQL", "postgres") from error
    return psycopg
