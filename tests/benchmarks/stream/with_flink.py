"""Nexmark on PyFlink's DataStream API in thread mode: Python in Flink's own process, one slot.

Events are taken from memory by number, so nothing has to be unpickled on the way in; steps in a row are fused by Flink.
What crosses a shuffle is a key and a pickled value. Outputs are thrown away in the last Python step.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pyflink.common import Configuration, Time, Types, WatermarkStrategy
from pyflink.common.watermark_strategy import TimestampAssigner
from pyflink.datastream import (
    AggregateFunction,
    FlatMapFunction,
    KeyedProcessFunction,
    ProcessWindowFunction,
    RuntimeExecutionMode,
    StreamExecutionEnvironment,
)
from pyflink.datastream.connectors.number_seq import NumberSequenceSource
from pyflink.datastream.state import ListStateDescriptor, ValueStateDescriptor
from pyflink.datastream.window import SlidingEventTimeWindows, TumblingEventTimeWindows

from tests.benchmarks.nexmark.model import Auction, Bid, Person
from tests.benchmarks.stream.events import CONFIG, LONGEST, made

STATES = frozenset(("OR", "ID", "CA"))
CENTS_TO_EUROCENTS = 0.89
# A type that was used once holds on to Java, and cannot be pickled again: each use has its own.
PICKLED = Types.PICKLED_BYTE_ARRAY
KEY = Types.LONG
# The Python inside of Java looks for its modules where this says.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))


class _Event(FlatMapFunction):  # type: ignore[misc]
    """An event by its number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def open(self, context: Any) -> None:
        self.events = made(min(self.count, LONGEST))

    def flat_map(self, number: int) -> Iterable[Any]:
        yield self.events[number % LONGEST]


class _Discard(FlatMapFunction):  # type: ignore[misc]
    """Keeps results in a file, one line of JSON each, or throws them away."""

    def __init__(self, path: str | None) -> None:
        self.path = path

    def open(self, context: Any) -> None:
        self.file = open(self.path, "w") if self.path else None  # noqa: SIM115

    def flat_map(self, value: Any) -> Iterable[Any]:
        if self.file is not None:
            self.file.write(json.dumps(value) + "\n")
        return ()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


class _DateTime(TimestampAssigner):  # type: ignore[misc]
    def extract_timestamp(self, value: Any, record_timestamp: int) -> int:
        return value.date_time


def timed(events: Any) -> Any:
    strategy = WatermarkStrategy.for_monotonous_timestamps().with_timestamp_assigner(_DateTime())
    return events.assign_timestamps_and_watermarks(strategy)


def is_bid(event: Any) -> bool:
    return isinstance(event, Bid)


def to_euros(bid: Any) -> Any:
    return bid._replace(price=bid.price * CENTS_TO_EUROCENTS)


def query0(events: Any) -> Any:
    return events.map(lambda event: event)


def query1(events: Any) -> Any:
    return events.filter(is_bid).map(to_euros)


def query2(events: Any) -> Any:
    skip = CONFIG.auction_skip
    some = events.filter(is_bid).filter(lambda bid: bid.auction % skip == 0)
    return some.map(lambda bid: (bid.auction, bid.price))


def is_local(event: Any) -> bool:
    if isinstance(event, Person):
        return event.state in STATES
    return isinstance(event, Auction) and event.category == 10


def person_or_seller(event: Any) -> int:
    return event.id if isinstance(event, Person) else event.seller


class _JoinByState(KeyedProcessFunction):  # type: ignore[misc]
    def open(self, context: Any) -> None:
        self.person = context.get_state(ValueStateDescriptor("person", PICKLED()))
        self.waiting = context.get_list_state(ListStateDescriptor("waiting", KEY()))

    def process_element(self, event: Any, context: Any) -> Iterable[Any]:
        if isinstance(event, Person):
            self.person.update(event)
            context.timer_service().register_event_time_timer(event.date_time + CONFIG.max_wait_ms)
            for auction in self.waiting.get():
                yield event.name, event.city, event.state, auction
            self.waiting.clear()
            return
        person = self.person.value()
        if person is None:
            self.waiting.add(event.id)
        else:
            yield person.name, person.city, person.state, event.id

    def on_timer(self, timestamp: int, context: Any) -> Iterable[Any]:
        self.person.clear()
        return ()


def query3(events: Any) -> Any:
    local = timed(events.filter(is_local))
    return local.key_by(person_or_seller, key_type=KEY()).process(_JoinByState(), output_type=PICKLED())


def _rank(bid: Any) -> tuple[int, int, int]:
    return bid.price, -bid.date_time, -bid.bidder


class _Winning(KeyedProcessFunction):  # type: ignore[misc]
    """By auction: the best bid so far, given out when the auction closes."""

    def open(self, context: Any) -> None:
        self.auction = context.get_state(ValueStateDescriptor("auction", PICKLED()))
        self.best = context.get_state(ValueStateDescriptor("best", PICKLED()))

    def process_element(self, event: Any, context: Any) -> Iterable[Any]:
        if isinstance(event, Auction):
            self.auction.update(event)
            context.timer_service().register_event_time_timer(event.expires - 1)
            return ()
        auction, best = self.auction.value(), self.best.value()
        if (
            auction is not None
            and event.price >= auction.reserve
            and event.date_time < auction.expires
            and (best is None or _rank(best) < _rank(event))
        ):
            self.best.update(event)
        return ()

    def on_timer(self, timestamp: int, context: Any) -> Iterable[Any]:
        auction, best = self.auction.value(), self.best.value()
        self.auction.clear()
        self.best.clear()
        if best is not None:
            yield auction, best


def winning(events: Any) -> Any:
    sales = timed(events.filter(lambda event: not isinstance(event, Person)))
    by_auction = sales.key_by(lambda event: event.id if isinstance(event, Auction) else event.auction, key_type=KEY())
    return by_auction.process(_Winning(), output_type=PICKLED())


class _Mean(AggregateFunction):  # type: ignore[misc]
    def create_accumulator(self) -> Any:
        return 0, 0

    def add(self, value: Any, accumulator: Any) -> Any:
        return accumulator[0] + value[1].price, accumulator[1] + 1

    def get_result(self, accumulator: Any) -> Any:
        return accumulator[0] / accumulator[1]

    def merge(self, left: Any, right: Any) -> Any:
        return left[0] + right[0], left[1] + right[1]


class _WithEnd(ProcessWindowFunction):  # type: ignore[misc]
    def process(self, key: Any, context: Any, elements: Iterable[Any]) -> Iterable[Any]:
        for element in elements:
            yield key, element, context.window().end


def sliding() -> Any:
    return SlidingEventTimeWindows.of(
        Time.milliseconds(CONFIG.window_ms), Time.milliseconds(CONFIG.period_ms)
    )


def query4(events: Any) -> Any:
    by_category = winning(events).key_by(lambda sale: sale[0].category, key_type=KEY())
    return by_category.window(sliding()).aggregate(
        _Mean(), window_function=_WithEnd(), accumulator_type=PICKLED(), output_type=PICKLED()
    )


class _Count(AggregateFunction):  # type: ignore[misc]
    def create_accumulator(self) -> int:
        return 0

    def add(self, value: Any, accumulator: int) -> int:
        return accumulator + 1

    def get_result(self, accumulator: int) -> int:
        return accumulator

    def merge(self, left: int, right: int) -> int:
        return left + right


class _Hottest(ProcessWindowFunction):  # type: ignore[misc]
    def process(self, key: Any, context: Any, elements: Iterable[Any]) -> Iterable[Any]:
        counts = list(elements)
        most = max(count for _, count, _ in counts)
        return [found for found in counts if found[1] == most]


def query5(events: Any) -> Any:
    counts = (
        timed(events.filter(is_bid))
        .key_by(lambda bid: bid.auction, key_type=KEY())
        .window(sliding())
        .aggregate(_Count(), window_function=_WithEnd(), accumulator_type=KEY(), output_type=PICKLED())
    )
    # What a window gives has the window's last instant: one window after it gathers them all.
    windows = TumblingEventTimeWindows.of(Time.milliseconds(CONFIG.period_ms))
    by_end = counts.key_by(lambda found: found[2], key_type=KEY())
    return by_end.window(windows).process(_Hottest(), output_type=PICKLED())


class _LastTen(KeyedProcessFunction):  # type: ignore[misc]
    """By seller: the mean price of the last ten auctions to close, each time one does."""

    def open(self, context: Any) -> None:
        self.last = context.get_state(ValueStateDescriptor("last", PICKLED()))

    def process_element(self, sale: Any, context: Any) -> Iterable[Any]:
        count, last = self.last.value() or (0, [])
        last = sorted([*last, (sale[0].expires, sale[0].id, sale[1].price)])[-10:]
        self.last.update((count + 1, last))
        yield sale[0].seller, count, sum(price for _, _, price in last) // len(last)


def query6(events: Any) -> Any:
    by_seller = winning(events).key_by(lambda sale: sale[0].seller, key_type=KEY())
    return by_seller.process(_LastTen(), output_type=PICKLED())


class _Highest(AggregateFunction):  # type: ignore[misc]
    def create_accumulator(self) -> Any:
        return []

    def add(self, bid: Any, best: Any) -> Any:
        if not best or bid.price > best[0].price:
            return [bid]
        return [*best, bid] if bid.price == best[0].price else best

    def get_result(self, best: Any) -> Any:
        return best

    def merge(self, left: Any, right: Any) -> Any:
        return left + right


def query7(events: Any) -> Any:
    windows = TumblingEventTimeWindows.of(Time.milliseconds(CONFIG.window_ms))
    best = (
        timed(events.filter(is_bid))
        .key_by(lambda bid: 0, key_type=KEY())
        .window(windows)
        .aggregate(_Highest(), accumulator_type=PICKLED(), output_type=PICKLED())
    )
    return best.flat_map(lambda bids: bids)


class _Pairs(ProcessWindowFunction):  # type: ignore[misc]
    def process(self, key: Any, context: Any, elements: Iterable[Any]) -> Iterable[Any]:
        found = list(elements)
        auctions = [event for event in found if isinstance(event, Auction)]
        for person in found:
            if isinstance(person, Person):
                yield from ((person.id, person.name, auction.reserve) for auction in auctions)


def query8(events: Any) -> Any:
    windows = TumblingEventTimeWindows.of(Time.milliseconds(CONFIG.window_ms))
    both = timed(events.filter(lambda event: not isinstance(event, Bid)))
    return both.key_by(person_or_seller, key_type=KEY()).window(windows).process(_Pairs(), output_type=PICKLED())


QUERIES = {
    0: query0, 1: query1, 2: query2, 3: query3, 4: query4, 5: query5, 6: query6, 7: query7, 8: query8,
}  # fmt: skip


def environment() -> StreamExecutionEnvironment:
    config = Configuration()
    config.set_string("python.execution-mode", "thread")
    config.set_string("python.executable", sys.executable)
    config.set_string("restart-strategy.type", "none")
    config.set_string("parallelism.default", "1")
    config.set_string("taskmanager.numberOfTaskSlots", "1")
    env = StreamExecutionEnvironment.get_execution_environment(config)
    env.set_runtime_mode(RuntimeExecutionMode.STREAMING)
    env.set_parallelism(1)
    env.enable_checkpointing(1_000)
    return env


def run(number: int, count: int, collect: bool) -> list[Any]:
    """Q``number`` over ``count`` events; gives its outputs, if they are to be collected."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "outputs")
        env = environment()
        numbers = env.from_source(
            NumberSequenceSource(0, count - 1), WatermarkStrategy.no_watermarks(), "numbers", type_info=KEY()
        )
        events = numbers.flat_map(_Event(count), output_type=PICKLED())
        QUERIES[number](events).flat_map(_Discard(str(path) if collect else None), output_type=KEY()).print()
        env.execute(f"nexmark{number}")
        return [json.loads(line) for line in path.read_text().splitlines()] if collect else []
