"""The orders job: equal to a plain reference, whether it runs through or is killed and goes on."""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sage.errors import ConfigError
from sage.jobs.orders import main
from sage.jobs.orders.events import SPLITS, Generated, Shop, order, payments
from sage.jobs.orders.model import Order, Payment, decode, encode
from tests.patience import patience

SHOP = Shop(seed=7, customers=40, events=2_500)
FLAGS = ["--seed", "7", "--customers", "40", "--events", "2500", "--pay-within", "15m", "--window", "10m"]
LOCAL = ["--runner=sage.runners.local.LocalRunner"]
WITHIN_MS = 900_000


def rows(folder: Path) -> collections.Counter[str]:
    """The lines of all parts in a folder, as often as they are there."""
    return collections.Counter(line for part in folder.glob("*.jsonl") for line in part.read_text().splitlines())


def table(out: Path, query: str) -> list[Any]:
    with sqlite3.connect(out / "orders.sqlite") as database:
        return sorted(database.execute(query))


def everything(out: Path) -> list[Any]:
    """All that a run has written."""
    tables = [table(out, f"SELECT * FROM {name}") for name in ("customers", "alerts", "revenue")]
    return [rows(out / "settlements"), rows(out / "alerts"), *tables]


def settlements_of(shop: Shop, within_ms: int) -> collections.Counter[str]:
    """What becomes of each order of a shop, by a plain loop."""
    found = []
    for number in range(shop.events or 0):
        made, paid = order(shop, number), payments(shop, number)
        in_time = sum(payment.amount for payment in paid if payment.at_ms <= made.at_ms + within_ms)
        status = "unpaid" if not in_time else "underpaid" if in_time < made.amount else "overpaid"
        status = "paid" if in_time == made.amount else status
        found.append((made.order_id, made.customer, made.amount, in_time, status, made.at_ms + within_ms))
        for payment in paid:
            if payment.at_ms > made.at_ms + within_ms:
                closed = payment.at_ms + within_ms
                found.append((payment.order_id, payment.customer, 0, payment.amount, "unmatched", closed))
    names = ("order_id", "customer", "amount", "paid", "status", "closed_ms")
    return collections.Counter(json.dumps(dict(zip(names, row, strict=True))) for row in found)


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What a run that nothing disturbs has written."""
    out = tmp_path_factory.mktemp("through")
    main([*FLAGS, *LOCAL, "--output", str(out)])
    return everything(out)


def test_settlements_equal_their_reference(through: list[Any]) -> None:
    settlements, alerts, customers, alert_rows, revenue = through
    assert settlements == settlements_of(SHOP, WITHIN_MS)
    made = [json.loads(line) for line in settlements.elements()]
    orders: collections.Counter[str] = collections.Counter()
    paid: collections.Counter[str] = collections.Counter()
    for settlement in made:
        orders[settlement["customer"]] += settlement["status"] != "unmatched"
        paid[settlement["customer"]] += settlement["paid"]
    assert {customer: (count, cents) for customer, count, cents, *_ in customers} == {
        customer: (orders[customer], paid[customer]) for customer in orders
    }
    assert sum(cents for _, _, cents in revenue) == sum(paid.values())
    kinds = collections.Counter(kind for _, kind, *_ in alert_rows)
    assert kinds["unmatched"] == sum(settlement["status"] == "unmatched" for settlement in made) > 0
    assert kinds["quiet"] >= len(customers)
    assert sum(alerts.values()) == len(alert_rows)


def test_two_workers_give_the_same(through: list[Any], tmp_path: Path) -> None:
    main([*FLAGS, *LOCAL, "--output", str(tmp_path), "--workers=2"])
    assert everything(tmp_path) == through


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_and_resumed_it_gives_the_same(through: list[Any], tmp_path: Path, seed: int) -> None:
    command = [sys.executable, "-m", "sage.jobs.orders", *FLAGS, *LOCAL, "--output", str(tmp_path), "--rate", "1000"]
    moments = random.Random(seed)
    kills = 0
    while True:
        job = subprocess.Popen([*command, "--checkpoint_interval=100ms"], stderr=subprocess.PIPE, text=True)
        try:
            # Killed only when there is a checkpoint to go on from: else this would be a test of starting anew.
            if kills < 2:
                wait_for_checkpoint(tmp_path / "checkpoints", job)
                time.sleep(moments.uniform(0, 0.3))
                os.kill(job.pid, signal.SIGKILL)
                kills += 1
            _, told = job.communicate(timeout=patience(60))
        finally:
            job.kill()
            job.wait()
        if job.returncode != -signal.SIGKILL:
            break
    assert (job.returncode, kills) == (0, 2), told
    assert everything(tmp_path) == through


def wait_for_checkpoint(folder: Path, job: subprocess.Popen[str]) -> None:
    """Waits until a checkpoint is there that was not before."""
    before = set(folder.rglob("MANIFEST.json"))
    deadline = time.monotonic() + patience(60)
    while not set(folder.rglob("MANIFEST.json")) - before:
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("kind", [Order, Payment])
def test_a_split_can_be_read_from_any_position(kind: type[Any]) -> None:
    source = Generated(kind, Shop(seed=3, events=103))
    whole = [(split, value) for split in source.splits() for value in read(source, split, None)]
    assert len({value.order_id for _, value in whole}) > 80
    for split in range(SPLITS):
        reader = source.reader(split, None)
        first = reader.poll(9)
        assert first is not None
        rest = read(source, split, reader.position())
        assert [(split, value) for value in [*first.values, *rest]] == [row for row in whole if row[0] == split]


def read(source: Generated, split: int, position: Any) -> list[Any]:
    reader = source.reader(split, position)
    found: list[Any] = []
    while not reader.finished:
        mark = reader.watermark()
        batch = reader.poll(10)
        if batch is not None:
            assert all(stamp >= mark for stamp in batch.timestamps)  # type: ignore[union-attr]
            found += batch.values
    return found


def test_messages() -> None:
    made = order(SHOP, 5)
    assert decode(Order, encode(made)) == made
    for message, why in [(b"[]", "object"), (b"{}", "order_id must be"), (b"x", "Expecting value")]:
        with pytest.raises(ValueError, match=why):
            decode(Order, message)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--events", "0"], "--events must be above zero"),
        (["--window", "0s"], "--window must be above zero"),
        (["--pay-within", "soon"], "'soon' is not a duration"),
        (["--kafka", "localhost:1", "--events", "5"], "topics have no end"),
        (["--evnts", "5"], "unknown option '--evnts'. Did you mean --events"),
    ],
)
def test_wrong_parameters_stop_it_before_anything_runs(tmp_path: Path, flags: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        main([*flags, "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
