"""A broker that is not there: what is raised, and how much is logged of it."""

from __future__ import annotations

import logging
import socket

import pytest

from sage.transforms.io.kafka import admin as control
from sage.transforms.io.kafka.admin import BrokerAdmin
from sage.transforms.io.kafka.log_filters import Seldom


def test_a_line_of_code_that_complains_again_and_again_is_heard_once_in_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    logger = logging.getLogger("complains")
    logger.setLevel(logging.INFO)
    logger.addFilter(Seldom(every_s=30, now_s=lambda: now))
    for now in (0.0, 1.0, 29.0, 30.0, 31.0):
        logger.warning("away at %d", now)
        logger.info("tried at %d", now)
    logger.error("another thing")
    heard = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert heard == ["away at 0", "away at 30", "another thing"]
    assert sum(record.levelno == logging.INFO for record in caplog.records) == 5


def test_no_broker_is_one_error_that_names_the_servers_and_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens at it
        servers = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"no Kafka broker answers at {servers}"):
            BrokerAdmin({"bootstrap.servers": servers, "reconnect.backoff.ms": "1"}, patience_s=0.2)
    places = [(record.name, record.lineno) for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(places) == len(set(places)) <= 5


def test_that_no_broker_answers_is_told_long_before_it_is_given_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_SOON_TOLD_MS", 100)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        servers = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionError):
            BrokerAdmin({"bootstrap.servers": servers}, patience_s=1.2)
    assert f"no Kafka broker answers at {servers} (bootstrap.servers) so far; it is asked for 1 s in all" in caplog.text
