from __future__ import annotations

import contextlib
import csv
import datetime
import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sage.errors import ConfigError
from sage.jobs.etl import main
from sage.jobs.etl.config import DEFAULT_CONFIG, EtlConfig, load_config
from sage.jobs.etl.sample import main as make_sample
from sage.jobs.etl.sample import write_sample


@pytest.fixture
def sample(tmp_path: Path) -> list[str]:
    """The arguments that name the sample data: a thousand orders, a hundred customers."""
    folder = tmp_path / "data"
    write_sample(str(folder), rows=1000)
    return ["--input", f"orders={folder}/orders-*.csv", "--input", f"customers={folder}/customers.jsonl"]


def _parquet(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out / "orders_enriched.parquet").to_pylist()


def _sqlite(out: Path) -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(out / "etl.sqlite")) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("SELECT * FROM orders_enriched ORDER BY order_id")]


def _dead(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "dead_letters.jsonl").read_text(encoding="utf-8").splitlines()]


def _reference(folder: Path) -> tuple[list[dict[str, Any]], set[tuple[str, int]]]:
    """The same job as one plain loop that knows what the sample spoils: good rows, and the places of bad ones."""
    customers: dict[int, dict[str, Any]] = {}
    dead = set()
    path = folder / "customers.jsonl"
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            dead.add((str(path), number))
            continue
        if record["customer_id"] in customers:
            dead.add((str(path), number))
        else:
            customers[record["customer_id"]] = record
    good: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.glob("orders-*.csv")):
        lines = path.read_bytes().splitlines()
        names = lines[0].decode().split(",")
        for number, line in enumerate(lines[1:], start=2):
            row = _good_order(names, line, customers)
            if row is None or row["order_id"] in good:
                dead.add((str(path), number))
            else:
                good[row["order_id"]] = row
    return [good[order_id] for order_id in sorted(good)], dead


def _good_order(names: list[str], line: bytes, customers: dict[int, dict[str, Any]]) -> dict[str, Any] | None:
    try:
        fields = next(csv.reader([line.decode()], strict=True))
        row: dict[str, Any] = dict(zip(names, fields, strict=True))
        customer = customers[int(row["customer_id"])]
        row["ordered_at"] = datetime.datetime.fromisoformat(row["ordered_at"].replace("Z", "+00:00"))
    except (ValueError, KeyError, csv.Error):
        return None
    if not row["status"] or int(row["quantity"]) < 1 or float(row["amount"]) < 0:
        return None
    since = customer["since"] and datetime.date.fromisoformat(customer["since"])
    for name, kind in (("order_id", int), ("customer_id", int), ("quantity", int), ("amount", float)):
        row[name] = kind(row[name])
    row["note"] = row["note"] or None
    return {**row, "name": customer["name"], "country": customer["country"], "since": since,
            "newsletter": customer["newsletter"]}  # fmt: skip


def test_the_result_equals_the_plain_loop_on_every_runner(
    sample: list[str], tmp_path: Path, runner: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    main([*sample, "--output", str(out), *runner])
    rows, dead = _reference(tmp_path / "data")
    assert len(rows) == 980
    assert _parquet(out) == rows
    # SQLite has no dates and no booleans: ISO text, and 0 and 1.
    plain = [
        {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
        for row in rows
    ]
    assert _sqlite(out) == plain
    letters = _dead(out)
    assert {(letter["source"], letter["line"]) for letter in letters} == dead
    assert len(letters) == len(dead)
    assert {letter["step"] for letter in letters} == {"ReadCsv", "ReadJsonLines", "Clean", "KeepFirst", "Join"}
    assert all(letter["reason"] and letter["payload"] for letter in letters)
    printed = capsys.readouterr().out
    assert printed.startswith("980 rows of orders_enriched written to ")
    assert f"{len(dead)} rows refused" in printed


def test_running_it_twice_changes_nothing(sample: list[str], tmp_path: Path, local: list[str]) -> None:
    out = tmp_path / "out"
    main([*sample, "--output", str(out), *local])
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(before) == ["dead_letters.jsonl", "etl.sqlite", "orders_enriched.parquet"]
    main([*sample, "--output", str(out), *local])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_mended_row_takes_its_place(sample: list[str], tmp_path: Path, local: list[str]) -> None:
    out = tmp_path / "out"
    main([*sample, "--output", str(out), *local])
    first = next(letter for letter in _dead(out) if letter["step"] == "Clean")
    path = Path(first["source"])
    lines = path.read_bytes().splitlines(keepends=True)
    order_id = json.loads(first["payload"])["order_id"]
    lines[first["line"] - 1] = f"{order_id},1,2024-05-01T00:00:00Z,paid,1,9.5,mended\n".encode()
    path.write_bytes(b"".join(lines))
    main([*sample, "--output", str(out), *local])
    assert [row["note"] for row in _sqlite(out) if row["order_id"] == int(order_id)] == ["mended"]
    assert len(_sqlite(out)) == len(_parquet(out)) == 981


def test_the_reasons_name_what_is_wrong(tmp_path: Path, local: list[str]) -> None:
    orders = tmp_path / "orders.csv"
    orders.write_bytes(
        b"order_id,customer_id,ordered_at,status,quantity,amount\n"
        b"1,1,2024-05-01T00:00:00Z,paid,1,9.5\n"
        b"2,1,2024-05-01T00:00:00Z,lost,0,x\n"
        b"3,9,2024-05-01T00:00:00Z,paid,1,9.5\n"
        b"1,1,2024-05-01T00:00:00Z,open,1,9.5\n"
        b"\xff\xfe\n"
    )
    customers = tmp_path / "customers.jsonl"
    customers.write_text('{"customer_id": 1, "name": "Ada", "country": "GB"}\n')
    out = tmp_path / "out"
    main([f"--input=orders={orders}", f"--input=customers={customers}", f"--output={out}", *local])
    assert [(letter["line"], letter["reason"]) for letter in _dead(out)] == [
        (3, "status: 'lost' is none of open, paid, shipped, returned; quantity: '0' is below the least, 1; "
            "amount: 'x' is not a number"),
        (4, "customers has no row with customer_id=9"),
        (5, f"order_id=1 is already in {orders}:2"),
        (6, "not UTF-8: invalid start byte at byte 0"),
    ]  # fmt: skip
    assert [row["order_id"] for row in _parquet(out)] == [1]


def test_missing_input_stops_it_before_anything_runs(sample: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for argv, why in (
        ([], "--input orders=FILES is missing. For sample data: python -m sage.jobs.etl.sample"),
        (sample[:2], "--input customers=FILES is missing"),
        ([*sample, "--input", "clients=x"], "where NAME is orders or customers"),
        ([*sample[:2], "--input", f"customers={tmp_path}/none.jsonl"], "no customers input file matches"),
        ([*sample, "--config", str(tmp_path / "none.json")], "cannot be read: No such file"),
    ):
        with pytest.raises(ConfigError, match=why):
            main([*argv, "--output", str(out)])
    assert not out.exists()


def _changed(**parts: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(DEFAULT_CONFIG)), **parts}


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (_changed(more=1), "unknown key 'more'"),
        (_changed(table="orders; drop"), "must be a name of letters"),
        (_changed(join={"left": "orders", "right": "clients", "on": []}), "join needs 'left' and 'right'"),
        (_changed(join={"left": "orders", "right": "customers", "on": ["name"]}), "must be on the key of 'customers'"),
        (_changed(inputs=[]), "'inputs' must be an object"),
        ({}, "'inputs' must be an object"),
    ],
)
def test_a_wrong_configuration_names_what_is_wrong(config: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        EtlConfig.from_dict(config, "etl.json")


def test_a_configuration_of_ones_own(tmp_path: Path, local: list[str]) -> None:
    config = {
        "inputs": {
            "visits": {
                "format": "jsonl",
                "key": ["id"],
                "columns": [{"name": "id", "required": True}, {"name": "city", "required": True}],
            },
            "cities": {
                "format": "csv",
                "key": ["city"],
                "columns": [{"name": "city", "required": True}, {"name": "people", "type": "integer"}],
            },
        },
        "join": {"left": "visits", "right": "cities", "on": ["city"]},
        "table": "seen",
    }
    (tmp_path / "etl.json").write_text(json.dumps(config))
    assert load_config(str(tmp_path / "etl.json")).result.key == ("id",)
    (tmp_path / "v.jsonl").write_text('{"id": "a", "city": "Ulm"}\n{"id": "b", "city": "Ulm"}\n')
    (tmp_path / "c.csv").write_text("city,people\nUlm,126000\n")
    files = ["--input", f"visits={tmp_path}/v.jsonl", "--input", f"cities={tmp_path}/c.csv"]
    main([*files, "--config", str(tmp_path / "etl.json"), "--output", str(tmp_path / "out"), *local])
    assert pq.read_table(tmp_path / "out" / "seen.parquet").to_pylist() == [
        {"id": "a", "city": "Ulm", "people": 126000},
        {"id": "b", "city": "Ulm", "people": 126000},
    ]


def test_the_sample_is_the_same_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sample([str(tmp_path / "a"), "--rows", "100"])
    assert len(capsys.readouterr().out.splitlines()) == 3
    first = (tmp_path / "a" / "orders-0.csv").read_bytes().splitlines()[1]
    assert first == b"1,7,2024-04-28T12:32:49Z,open,2,108.10,"
    with pytest.raises(ConfigError, match="at least 10"):
        make_sample([str(tmp_path / "b"), "--rows", "9"])
