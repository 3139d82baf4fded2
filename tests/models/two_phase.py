"""A slow, obvious driver of a `TransactionalDoFn`: what a runner with checkpoints does, in one loop."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apache_beam as beam
import cloudpickle
from apache_beam.pipeline import PipelineVisitor

from sage.transactions import SinkContext, TransactionalDoFn


@dataclass(frozen=True)
class Checkpoint:
    """What is durable: how far the input is, and what each subtask prepared."""

    epoch: int = 0
    position: int = 0
    prepared: dict[int, list[Any]] = field(default_factory=dict)


@dataclass
class Driver:
    """Runs a sink over elements, dealt out over its subtasks, with a checkpoint after every few of them.

    Attributes:
        sink: the sink; each subtask has a copy.
        store: the file of the checkpoint.
        every: how many elements there are between checkpoints (count).
        subtasks: how many subtasks the sink has (count).
        step, job: what they are called.
    """

    sink: TransactionalDoFn
    store: Path
    every: int = 3
    subtasks: int = 1
    step: str = "Write"
    job: str = "a-job"

    def load(self) -> Checkpoint:
        """The last durable checkpoint."""
        return pickle.loads(self.store.read_bytes()) if self.store.exists() else Checkpoint()

    def save(self, checkpoint: Checkpoint) -> None:
        """Makes a checkpoint durable, whole or not at all."""
        beside = self.store.with_suffix(".new")
        beside.write_bytes(pickle.dumps(checkpoint))
        os.replace(beside, self.store)

    def start(self, checkpoint: Checkpoint) -> list[TransactionalDoFn]:
        """The subtasks, recovered; those there were before are dealt out over those there are now."""
        sinks = []
        before = checkpoint.prepared
        for subtask in range(self.subtasks):
            earlier = tuple(n for n in before if n % self.subtasks == subtask) if before else (subtask,)
            sink = cloudpickle.loads(cloudpickle.dumps(self.sink))
            sink.manage()
            sink.setup()
            handles = [handle for n in earlier for handle in before.get(n, ())]
            sink.recover(SinkContext(self.job, self.step, subtask, self.subtasks, earlier), handles)
            sinks.append(sink)
        return sinks

    def run(self, elements: Sequence[Any], until: int | None = None) -> None:
        """Goes on from the checkpoint to the end of the input, or to a position in it."""
        checkpoint = self.load()
        sinks = self.start(checkpoint)
        end = len(elements) if until is None else until
        epoch, position = checkpoint.epoch, checkpoint.position
        while position < end:
            for element in elements[position : min(position + self.every, end)]:
                sinks[position % self.subtasks].process(element)
                position += 1
            epoch += 1
            prepared = {subtask: [sink.prepare(epoch)] for subtask, sink in enumerate(sinks)}
            self.save(Checkpoint(epoch, position, prepared))
            for subtask, sink in enumerate(sinks):
                sink.commit(prepared[subtask][0])
        for sink in sinks:
            sink.teardown()


def sink_of(transform: beam.PTransform) -> TransactionalDoFn:
    """The sink in two phases that a transform has for bounded input."""
    found: list[TransactionalDoFn] = []

    class Finder(PipelineVisitor):
        def visit_transform(self, node: Any) -> None:
            if isinstance(node.transform, beam.ParDo) and isinstance(node.transform.fn, TransactionalDoFn):
                found.append(node.transform.fn)

    pipeline = beam.Pipeline()
    pipeline | beam.Create([]) | transform
    pipeline.visit(Finder())
    (sink,) = found
    return sink
