"""The pipeline of the orders job: plain Beam, with sources and sinks that know positions and transactions."""

# Annotations are evaluated here, not postponed: Beam reads them as type hints.
import argparse
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions
from apache_beam.transforms.window import FixedWindows

from sage.errors import ConfigError
from sage.jobs.arguments import parse_arguments
from sage.jobs.orders.events import Generated, Shop
from sage.jobs.orders.model import Order, Payment, decode, encode
from sage.jobs.orders.steps import ALERTS, Accounts, Settle
from sage.options import SageOptions, parse_duration_ms
from sage.sources import ReadStream
from sage.transforms.io.json_lines import WriteJsonLines
from sage.transforms.io.sqlite import WriteToSqlite

__all__ = ["OrdersConfig", "build", "main"]

_CUSTOMER_COLUMNS = {
    "customer": "TEXT",
    "orders": "INTEGER",
    "paid": "INTEGER",
    "unpaid": "INTEGER",
    "as_of_ms": "INTEGER",
}
_ALERT_COLUMNS = {"customer": "TEXT", "kind": "TEXT", "detail": "TEXT", "at_ms": "INTEGER"}
_REVENUE_COLUMNS = {"end_ms": "INTEGER", "status": "TEXT", "paid": "INTEGER"}


@dataclass(frozen=True)
class OrdersConfig:
    """What the job is told.

    Attributes:
        output: the folder to write into.
        shop: the generated stream; unused with ``kafka``.
        kafka: bootstrap servers (``host:port``); None for the generated stream.
        prefix: what the names of the topics begin with.
        client: the Kafka client, ``kafka-python`` or ``confluent-kafka``.
        within_ms: how long an order may be paid (ms of event time).
        window_ms: length of the windows of ``revenue`` and how often accounts are brought up to date (ms).
        quiet_ms: how long a customer has to be quiet for an alert (ms).
        unpaid_in_row: how many unpaid orders in a row are an alert (count).
        max_delay_ms: how far (ms) messages of a Kafka partition may be out of order.
    """

    output: str = os.path.join("out", "orders")
    shop: Shop = field(default_factory=Shop)
    kafka: str | None = None
    prefix: str = ""
    client: str = "kafka-python"
    within_ms: int = 900_000
    window_ms: int = 600_000
    quiet_ms: int = 3_600_000
    unpaid_in_row: int = 3
    max_delay_ms: int = 5_000

    @classmethod
    def parse(cls, argv: Sequence[str] | None) -> tuple["OrdersConfig", PipelineOptions]:
        """The configuration in ``argv`` (default: the program's), and the pipeline options in the rest.

        Raises:
            ConfigError: a value is wrong or an option is unknown.
        """
        parser = argparse.ArgumentParser(
            prog="sage run sage.jobs.orders --", allow_abbrev=False, description="Orders, payments, accounts, alerts."
        )
        add = parser.add_argument
        add("--output", default=cls.output, metavar="DIR", help="folder to write into (%(default)s)")
        add("--events", type=int, metavar="N", help="end after so many generated orders (default: never)")
        add("--rate", type=float, metavar="N", help="generate so many orders a second (default: no limit)")
        add("--seed", type=int, default=0, metavar="N", help="which stream is generated (%(default)s)")
        add("--customers", type=int, default=1_000, metavar="N", help="how many customers order (%(default)s)")
        add("--kafka", metavar="HOST:PORT", help="read and write topics there (default: generate)")
        add("--topic-prefix", default="", metavar="TEXT", help="what the names of the topics begin with")
        add("--client", default=cls.client, help="Kafka client: kafka-python or confluent-kafka")
        add("--pay-within", default="15m", metavar="TIME", help="how long an order may be paid (%(default)s)")
        add("--window", default="10m", metavar="TIME", help="length of the windows (%(default)s)")
        add("--quiet-after", default="1h", metavar="TIME", help="when silence is an alert (%(default)s)")
        known, options = parse_arguments(parser, argv)
        for name in ("events", "rate", "customers"):
            if getattr(known, name) is not None and getattr(known, name) <= 0:
                raise ConfigError(f"--{name} must be above zero, not {getattr(known, name)}")
        if known.kafka and known.events is not None:
            raise ConfigError("--events bounds the generated stream; topics have no end")
        return cls(
            output=known.output,
            shop=Shop(known.seed, known.customers, known.events, known.rate),
            kafka=known.kafka,
            prefix=known.topic_prefix,
            client=known.client,
            within_ms=_time("--pay-within", known.pay_within),
            window_ms=_time("--window", known.window),
            quiet_ms=_time("--quiet-after", known.quiet_after),
        ), options

    def path(self, *names: str) -> str:
        """A path in the output folder."""
        return os.path.join(self.output, *names)


def _time(name: str, text: str) -> int:
    found = parse_duration_ms(text)
    if found < 1:
        raise ConfigError(f"{name} must be above zero, not {text!r}")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job until its input ends or somebody stops it.

    Args:
        argv: the job's parameters and any Beam options (default: the program's arguments).

    Raises:
        ConfigError: a parameter is wrong; nothing has run.
    """
    config, options = OrdersConfig.parse(argv)
    options.view_as(StandardOptions).streaming = True
    google = options.view_as(GoogleCloudOptions)
    google.job_name = google.job_name or "orders"
    sage = options.view_as(SageOptions)
    # An endless job without checkpoints would commit nothing, ever.
    sage.checkpoint_dir = sage.checkpoint_dir or config.path("checkpoints")
    with beam.Pipeline(options=options) as pipeline:
        build(pipeline, config)


def build(pipeline: beam.Pipeline, config: OrdersConfig) -> None:
    """Add the job's steps to a pipeline."""
    events = _events(pipeline, config)
    settlements = (
        events
        | "ByOrder" >> beam.Map(lambda event: (event.order_id, event)).with_output_types(tuple[str, Any])
        | "Settle" >> beam.ParDo(Settle(config.within_ms))
    )
    _write(settlements, "settlements", config)

    accounts = (
        settlements
        | "ByCustomer" >> beam.Map(lambda found: (found.customer, found)).with_output_types(tuple[str, Any])
        | "Accounts"
        >> beam.ParDo(Accounts(config.window_ms, config.unpaid_in_row, config.quiet_ms)).with_outputs(
            ALERTS, main="totals"
        )
    )
    database = config.path("orders.sqlite")
    accounts.totals | "WriteCustomers" >> WriteToSqlite(database, "customers", _CUSTOMER_COLUMNS, ["customer"])
    accounts[ALERTS] | "WriteAlertRows" >> WriteToSqlite(database, "alerts", _ALERT_COLUMNS)
    _write(accounts[ALERTS], "alerts", config)
    (
        settlements
        | "Windows" >> beam.WindowInto(FixedWindows(config.window_ms / 1_000))
        | "ByStatus" >> beam.Map(lambda found: (found.status, found.paid)).with_output_types(tuple[str, int])
        | "Revenue" >> beam.CombinePerKey(sum)
        | "RevenueRow" >> beam.Map(_revenue_row)
        | "WriteRevenue" >> WriteToSqlite(database, "revenue", _REVENUE_COLUMNS, ["end_ms", "status"])
    )


def _revenue_row(sums: tuple[str, int], window: Any = beam.DoFn.WindowParam) -> dict[str, Any]:
    return {"end_ms": window.end.micros // 1_000, "status": sums[0], "paid": sums[1]}


def _events(pipeline: beam.Pipeline, config: OrdersConfig) -> beam.PCollection[Any]:
    """Orders and payments, in no particular order."""
    if config.kafka is None:
        orders = pipeline | "Orders" >> ReadStream(Generated(Order, config.shop))
        paid = pipeline | "Payments" >> ReadStream(Generated(Payment, config.shop))
        return (orders, paid) | "Events" >> beam.Flatten()
    read, dead = [], []
    for name, topic, kind in (("Orders", "orders", Order), ("Payments", "payments", Payment)):
        good, bad = pipeline | name >> _read_topic(topic, kind, config)
        read.append(good | f"{name}Values" >> beam.Map(lambda pair: pair[1]).with_output_types(Any))
        dead.append(bad)
    dead | "DeadLetters" >> beam.Flatten() | "WriteDead" >> WriteJsonLines(config.path("dead_letters"))
    return read | "Events" >> beam.Flatten()


def _read_topic(topic: str, kind: type[Any], config: OrdersConfig) -> beam.PTransform:
    from sage.transforms.io.kafka import ReadFromKafka

    return ReadFromKafka(
        {
            "bootstrap.servers": config.kafka,
            "group.id": f"{config.prefix}sage-orders",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        },
        [config.prefix + topic],
        value_deserializer=functools.partial(decode, kind),
        timestamp_policy=ReadFromKafka.create_time_policy,
        commit_offset_in_finalize=True,
        client=config.client,
        undecodable="dead_letter",
        max_delay_ms=config.max_delay_ms,
        max_watermark_lead_ms=None,  # the shop has a clock of its own
    )


def _write(rows: beam.PCollection[Any], name: str, config: OrdersConfig) -> None:
    """Rows to the topic, or into the folder, of a name; each exactly once."""
    label = name.capitalize()
    if config.kafka is None:
        rows | f"Write{label}" >> WriteJsonLines(config.path(name))
        return
    from sage.transforms.io.kafka import WriteToKafka

    (
        rows
        | f"{label}Messages" >> beam.Map(lambda row: (row.customer.encode(), encode(row)))
        | f"Write{label}"
        >> WriteToKafka(
            {"bootstrap.servers": config.kafka}, config.prefix + name, exactly_once=True, client=config.client
        )
    )
