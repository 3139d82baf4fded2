"""The jobs that are killed, as programs: ``python -m tests.recovery.chaos_jobs PIPELINE UPTO RATE OUT [options]``.

``sums`` and ``timers`` read numbers that appear at a rate and write JSON lines to the folder OUT. ``kafka`` reads the
topics ``OUT-orders`` and ``OUT-payments``, joins them in windows of a second, and writes to the topic OUT exactly once;
for it, OUT is ``host:port/topic/client``, and it has no end.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.transforms.window import FixedWindows

from sage.runners.local import LocalRunner
from sage.sources import ReadStream
from sage.transforms.io import WriteJsonLines
from sage.transforms.io.kafka import ReadFromKafka, WriteToKafka
from sage.transforms.joins import Join
from tests.recovery.streams import SHAPES, Numbers

BASE_MS = 1_600_000_000_000
NEVER_IDLE_MS = 1_000_000_000_000
PAIRS = tuple[bytes, bytes]


def to_files(pipeline: beam.Pipeline, shape: str, upto: int, rate: int, folder: str) -> None:
    """The numbers, counted, as JSON lines."""
    numbers = pipeline | "numbers" >> ReadStream(Numbers(upto, rate))
    SHAPES[shape](numbers) | "write" >> WriteJsonLines(folder, existing="refuse")


def to_kafka(pipeline: beam.Pipeline, address: str, topic: str, client: str) -> None:
    """Orders with their payments of the same second, if there are any."""
    sides = [
        pipeline
        | f"read {side}"
        >> ReadFromKafka(
            {"bootstrap.servers": address, "auto.offset.reset": "earliest", "group.id": topic},
            [f"{topic}-{side}"],
            timestamp_policy=ReadFromKafka.create_time_policy,
            max_delay_ms=500,
            idle_timeout_ms=NEVER_IDLE_MS,
            client=client,
        )
        | f"seconds {side}" >> beam.WindowInto(FixedWindows(1))
        for side in ("orders", "payments")
    ]
    (
        tuple(sides)
        | "join" >> Join(how="left")
        | "encode" >> beam.MapTuple(joined).with_output_types(PAIRS)
        | "write" >> WriteToKafka({"bootstrap.servers": address}, topic, exactly_once=True, client=client)
    )


def joined(key: bytes, sides: tuple[bytes, bytes | None]) -> tuple[bytes, bytes]:
    """A row of the join, as a record."""
    order, payment = sides
    return key, json.dumps([order.decode(), payment and payment.decode()]).encode()


def orders(upto: int) -> list[tuple[int, int, bytes]]:
    """Each order: its number, time (ms) and value."""
    return [(number, BASE_MS + number, b"order %d" % number) for number in range(upto)]


def payments(upto: int) -> list[tuple[int, int, bytes]]:
    """The payments: two thirds of the orders, some of them in the next second."""
    return [
        (number, BASE_MS + number + number % 7 * 50, b"payment %d" % number) for number in range(upto) if number % 3
    ]


def expected_join(upto: int) -> list[bytes]:
    """What the job that joins writes, in any order."""
    paid = {(number, at // 1_000): value for number, at, value in payments(upto)}
    return [joined(b"%d" % number, (value, paid.get((number, at // 1_000))))[1] for number, at, value in orders(upto)]


def main(argv: list[str]) -> None:
    """Runs one of the jobs."""
    name, upto, rate, out, *options = argv
    pipeline = beam.Pipeline(LocalRunner(), options=_streaming(options))
    if name == "kafka":
        to_kafka(pipeline, *out.split("/"))
    else:
        to_files(pipeline, name, int(upto), int(rate), out)
    pipeline.run().wait_until_finish()


def _streaming(options: list[str]) -> Any:
    made = PipelineOptions(options)
    made.view_as(StandardOptions).streaming = True
    return made


if __name__ == "__main__":
    main(sys.argv[1:])
