"""Sample data for the ETL job: orders and customers, with every kind of bad row in it.

``python -m sage.jobs.etl.sample data --rows 5000`` writes ``orders-0.csv``, ``orders-1.csv`` and ``customers.jsonl``
into the folder ``data``. The same numbers and seed give the same bytes on every machine and Python version.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence

from sage.errors import ConfigError

__all__ = ["main", "write_sample"]

_FIRST = ("Ada", "Björn", "Chen", "Dalia", "Emeka", "Fatima", "Grace", "Hiro", "Ines", "Jörg", "Kofi", "Lena")
_LAST = ("Lovelace", "Okafor", "Sato", "Nguyen", "García", "Novák", "Silva", "Hopper", "Haddad", "Kowalski")
_COUNTRIES = ("DE", "FR", "JP", "NG", "BR", "CZ", "US", "VN", "PL", "LB")
_STATUSES = ("open", "paid", "shipped", "returned")
_HEADER = "order_id,customer_id,ordered_at,status,quantity,amount,note\n"
_START = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
# About one row in so many is bad.
_BAD_EVERY = 50


def write_sample(folder: str, rows: int = 5000, seed: int = 7) -> list[str]:
    """Write the sample files into a folder, which is made if it is missing.

    Args:
        folder: where to write; files of the same names are replaced.
        rows: how many orders (count); there is one customer for every ten.
        seed: which data; the same seed gives the same bytes.

    Returns:
        The paths of the files.

    Raises:
        ConfigError: ``rows`` is less than 10.
    """
    if rows < 10:
        raise ConfigError(f"--rows {rows}: the sample needs at least 10")
    # Only random(): it alone is promised to give the same numbers in every Python version.
    draw = random.Random(seed).random
    os.makedirs(folder, exist_ok=True)
    customers = rows // 10
    orders = list(_orders(draw, rows, customers))
    middle = len(orders) // 2
    contents = {
        "orders-0.csv": [_HEADER.encode(), *orders[:middle]],
        "orders-1.csv": [_HEADER.encode(), *orders[middle:]],
        "customers.jsonl": list(_customers(draw, customers)),
    }
    paths = []
    for name, lines in contents.items():
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.writelines(lines)
        paths.append(path)
    return paths


def _pick(draw: Callable[[], float], choices: Sequence[str]) -> str:
    return choices[int(draw() * len(choices))]


def _orders(draw: Callable[[], float], rows: int, customers: int) -> Iterator[bytes]:
    for order_id in range(1, rows + 1):
        ordered_at = _START + datetime.timedelta(seconds=int(draw() * 366 * 86_400))
        quantity = 1 + int(draw() * 9)
        fields = [
            str(order_id),
            str(1 + int(draw() * customers)),
            ordered_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            _pick(draw, _STATUSES),
            str(quantity),
            f"{quantity * (100 + int(draw() * 9900)) / 100:.2f}",
            '"gift, wrapped"' if draw() < 0.1 else "",
        ]
        if order_id % _BAD_EVERY == 0:
            yield _spoiled_order(fields, order_id // _BAD_EVERY % 8)
        else:
            yield (",".join(fields) + "\n").encode()


def _spoiled_order(fields: list[str], kind: int) -> bytes:
    """The order with one fault: each of eight kinds in turn."""
    if kind == 0:
        return (",".join(fields[:4]) + "\n").encode()  # too few fields
    if kind == 1:
        return ",".join(fields).encode() + b"caf\xe9\n"  # Latin-1 in a UTF-8 file
    if kind == 2:
        fields[6] = '"never closed'
    elif kind == 3:
        fields[1] = "999999999"  # no such customer
    elif kind == 4:
        fields[2] = "2024-02-30T10:00:00Z"
    elif kind == 5:
        fields[4], fields[5] = "0", "-3"  # two faults in one row
    elif kind == 6:
        fields[0] = "1"  # the key of the first order again
    else:
        fields[3] = ""
    return (",".join(fields) + "\n").encode()


def _customers(draw: Callable[[], float], customers: int) -> Iterator[bytes]:
    for customer_id in range(1, customers + 1):
        since = datetime.date(2015, 1, 1) + datetime.timedelta(days=int(draw() * 3000))
        record = {
            "customer_id": customer_id,
            "name": f"{_pick(draw, _FIRST)} {_pick(draw, _LAST)}",
            "country": _pick(draw, _COUNTRIES),
            "since": since.isoformat() if draw() < 0.9 else None,
            "newsletter": draw() < 0.5,
        }
        yield (json.dumps(record, ensure_ascii=False) + "\n").encode()
        if customer_id % _BAD_EVERY == 0:
            yield b'{"customer_id": "not closed\n'
            yield b'{"customer_id": 1, "name": "Again", "country": "DE"}\n'


def main(argv: Sequence[str] | None = None) -> None:
    """Write the sample files that the arguments ask for (default: the program's arguments)."""
    parser = argparse.ArgumentParser(
        prog="python -m sage.jobs.etl.sample", description="Write sample data for the ETL job."
    )
    parser.add_argument("folder", help="where to write")
    parser.add_argument("--rows", type=int, default=5000, metavar="N", help="orders (count, default: 5000)")
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="which data (default: 7)")
    known = parser.parse_args(argv)
    for path in write_sample(known.folder, known.rows, known.seed):
        print(path)


if __name__ == "__main__":
    main()
