"""The orders job on topics of a real broker: killed and begun again, each result is there once."""

from __future__ import annotations

import collections
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from sage.jobs.orders.events import Shop
from sage.jobs.orders.feed import feed
from tests.jobs.test_orders import WITHIN_MS, settlements_of, wait_for_checkpoint
from tests.kafka.cluster import Cluster
from tests.patience import patience

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

SHOP = Shop(seed=5, customers=30, events=800)


def test_each_settlement_and_alert_is_committed_once(kafka: Cluster, tmp_path: Path) -> None:
    prefix = f"t{uuid.uuid4().hex[:8]}-"
    feed(kafka.address, SHOP, prefix)
    kafka.produce(f"{prefix}orders", [(b"c1", b"no order"), (b"c1", b'{"order_id": "o", "amount": "much"}')])
    right = settlements_of(SHOP, WITHIN_MS)

    command = [sys.executable, "-m", "sage.jobs.orders", "--runner=sage.runners.local.LocalRunner"]
    command += ["--kafka", kafka.address, "--topic-prefix", prefix, "--output", str(tmp_path)]
    for kill in (True, False):
        job = subprocess.Popen([*command, "--checkpoint_interval=100ms"], stderr=subprocess.PIPE, text=True)
        try:
            wait_for_checkpoint(tmp_path / "checkpoints", job)
            if not kill:
                wait_for(kafka, f"{prefix}settlements", right.total(), job)
        finally:
            os.kill(job.pid, signal.SIGKILL)
            job.wait()

    committed = [json.loads(record.value) for record in kafka.read(f"{prefix}settlements")]
    assert collections.Counter(map(json.dumps, committed)) == right
    alerts = [json.loads(record.value) for record in kafka.read(f"{prefix}alerts")]
    assert len({json.dumps(alert) for alert in alerts}) == len(alerts)
    with sqlite3.connect(tmp_path / "orders.sqlite") as database:
        (orders,) = database.execute("SELECT sum(orders) FROM customers").fetchone()
    assert orders == SHOP.events
    dead = [json.loads(line) for part in (tmp_path / "dead_letters").glob("*.jsonl") for line in part.open()]
    assert len(dead) == 2
    assert all(f"{prefix}orders" in letter["source"] for letter in dead)


def wait_for(kafka: Cluster, topic: str, count: int, job: subprocess.Popen[str]) -> None:
    """Waits until so many records are committed, and for another moment: there must not be more."""
    deadline = time.monotonic() + patience(100)
    while len(kafka.read(topic)) < count:
        assert job.poll() is None, told(job)
        written = len(kafka.read(topic, "read_uncommitted"))
        assert time.monotonic() < deadline, f"{len(kafka.read(topic))} of {count} committed, {written} written"
        time.sleep(0.2)
    time.sleep(1)


def told(job: subprocess.Popen[str]) -> Any:
    return job.communicate()[1][-2_000:]
