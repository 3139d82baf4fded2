"""Q3 and Q8: joins of people with their auctions, one by keyed state and a timer, one by window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import FastPrimitivesCoder, PickleCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from tests.benchmarks.nexmark.model import Auction, Config, Event, Person
from tests.benchmarks.nexmark.queries.simple import just_auctions, just_persons

STATES = frozenset(("OR", "ID", "CA"))
CATEGORY = 10


class JoinByState(beam.DoFn):
    """A person joined with their auctions, whichever comes first.

    State, per person: the person (until a timer after ``max_wait_ms`` of event time) and the auctions still waiting.
    """

    WAITING = BagStateSpec("waiting", FastPrimitivesCoder())
    PERSON = ReadModifyWriteStateSpec("person", PickleCoder())
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def __init__(self, max_wait_ms: int) -> None:
        self.max_wait_ms = max_wait_ms

    def process(
        self,
        element: tuple[int, Person | Auction],
        waiting: Any = beam.DoFn.StateParam(WAITING),
        person: Any = beam.DoFn.StateParam(PERSON),
        forget: Any = beam.DoFn.TimerParam(FORGET),
    ) -> Iterator[tuple[str, str, str, int]]:
        _, event = element
        if isinstance(event, Person):
            person.write(event)
            forget.set(Timestamp(micros=(event.date_time + self.max_wait_ms) * 1_000))
            for auction in waiting.read():
                yield event.name, event.city, event.state, auction
            waiting.clear()
            return
        seller = person.read()
        if seller is None:
            waiting.add(event.id)
        else:
            yield seller.name, seller.city, seller.state, event.id

    @on_timer(FORGET)
    def expire(self, person: Any = beam.DoFn.StateParam(PERSON)) -> Iterable[Any]:
        person.clear()
        return ()


def query3(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Local item suggestion: (name, city, state, auction) of who sells in three states in category 10."""
    auctions = (
        just_auctions(events)
        | "in category" >> beam.Filter(lambda auction: auction.category == CATEGORY)
        | "by seller" >> beam.Map(lambda auction: (auction.seller, auction))
    )
    persons = (
        just_persons(events)
        | "in states" >> beam.Filter(lambda person: person.state in STATES)
        | "by id" >> beam.Map(lambda person: (person.id, person))
    )
    return (auctions, persons) | beam.Flatten() | "join" >> beam.ParDo(JoinByState(config.max_wait_ms))


def pair_up(element: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[tuple[int, str, int]]:
    """(person, name, reserve) of each auction of a person."""
    _, group = element
    for person in group["persons"]:
        for auction in group["auctions"]:
            yield person.id, person.name, auction.reserve


def query8(events: beam.PCollection[Event], config: Config) -> beam.PCollection[Any]:
    """Monitor new users: who came and opened an auction within one window."""
    seconds = config.window_ms / 1_000
    windowed = events | "window" >> beam.WindowInto(beam.window.FixedWindows(seconds))
    persons = just_persons(windowed) | "by id" >> beam.Map(lambda person: (person.id, person))
    auctions = just_auctions(windowed) | "by seller" >> beam.Map(lambda auction: (auction.seller, auction))
    return (
        {"persons": persons, "auctions": auctions} | "join" >> beam.CoGroupByKey() | "pair up" >> beam.FlatMap(pair_up)
    )
