"""What a user chose for the case that a job fails, and the checkpoints of one attempt at it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sage.errors import CheckpointError, Fault
from sage.options import SageOptions
from sage.runners.engine.checkpoint.identity import compatible, describe, stage_ids, unnamed
from sage.runners.engine.checkpoint.protocol import Publish, Receipt
from sage.runners.engine.checkpoint.snapshot import StageSnapshot, StageState
from sage.runners.engine.core.spec import Plan
from sage.runners.engine.operators.two_phase_sink import is_transactional
from sage.runners.state.manifests import Manifest
from sage.runners.state.restoring import damaged, load
from sage.runners.state.scratch import state_folder
from sage.runners.state.snapshots import CheckpointStore

_log = logging.getLogger(__name__)

Write = Callable[[int, Mapping[int, StageSnapshot]], Receipt]
"""Stores the snapshots of an epoch, by stage."""


@dataclass(frozen=True)
class RecoveryOptions:
    """What a user chose for the case that a job fails.

    Attributes:
        job: the job's name.
        directory: where checkpoints go; None for no checkpoints.
        interval: between two checkpoints (microseconds).
        retained: how many are kept (count).
        restart: the restart policy, as its option says it.
        restore_from: a checkpoint or savepoint to begin from, in place of the job's latest.
        allow_dropped_state: whether state of steps that are gone may be left behind.
        state_dir: where a checkpoint's files are copied to; None for the system's temporary folder.
    """

    job: str
    directory: str | None = None
    interval: int = 10_000_000
    retained: int = 2
    restart: str = "none"
    restore_from: str | None = None
    allow_dropped_state: bool = False
    state_dir: str | None = None

    @staticmethod
    def of(options: SageOptions, job: str) -> RecoveryOptions:
        """What the options say."""
        kept = options.checkpoint_dir is not None
        if not kept and options.checkpoint_interval * 1_000 != RecoveryOptions.interval:
            _log.warning("--checkpoint_interval has no effect without --checkpoint_dir: no checkpoints are taken")
        return RecoveryOptions(
            job=job,
            directory=options.checkpoint_dir,
            interval=options.checkpoint_interval * 1_000,
            retained=options.retained_checkpoints,
            restart=options.restart or ("fixed-delay:3:1s" if kept else "none"),
            restore_from=options.restore_from,
            allow_dropped_state=options.allow_dropped_state,
            state_dir=options.state_dir,
        )


def warn_of(plan: Plan, durability: RecoveryOptions) -> None:
    """Tells what whoever wrote a job may not expect of the checkpoints that it has, or has not."""
    if durability.directory is not None:
        names = unnamed(plan)
        if names:
            _log.warning(
                "Beam made up the names of steps that a checkpoint holds something of, and may make up others when a "
                "function or Beam's version changes: %s. Name them, as 'Total' >> beam.CombinePerKey(sum)",
                ", ".join(map(repr, names)),
            )
    elif plan.unbounded:
        sinks = [step.name for stage in plan.stages for step in stage.steps if is_transactional(step)]
        if sinks:
            _log.warning(
                "without --checkpoint_dir what goes to %s is to be seen when the input ends or the job is drained, and "
                "not before",
                ", ".join(map(repr, sinks)),
            )


@dataclass(frozen=True)
class AttemptCheckpoints:
    """The checkpoints of one attempt: where they go, and which it begins from. Driver and workers each have a copy.

    Attributes:
        durability: what the user chose.
        run: tells what this attempt writes from what others do; empty where nothing is written.
        begin: what the attempt begins from; None for the beginning.
        epoch: the highest epoch so far.
    """

    durability: RecoveryOptions
    run: str = ""
    begin: Manifest | None = None
    epoch: int = 0

    def check(self, plan: Plan) -> None:
        """Sees whether the plan can begin from the checkpoint.

        Raises:
            CheckpointError: it cannot; the message names every step that stands in the way.
        """
        if self.begin is None:
            return
        problems = compatible(self.begin.description, describe(plan), self.durability.allow_dropped_state)
        if problems:
            listed = "".join(f"\n  - {problem}" for problem in problems)
            raise CheckpointError.unfit(f"the pipeline cannot go on from {self.begin.url}:{listed}")

    def writer(self, plan: Plan, worker: int, workers: int) -> Write | None:
        """Stores what the stages of one of so many workers hold; None where there is no place."""
        if self.durability.directory is None:
            return None
        store = CheckpointStore(self.durability.directory, self.durability.job, self.run)
        if self.begin is not None:
            store.remember(self.begin, worker, workers)
        ids = stage_ids(plan)

        def write(epoch: int, snapshots: Mapping[int, StageSnapshot]) -> Receipt:
            return store.write(epoch, worker, {ids[index]: snapshots[index] for index in sorted(snapshots)})

        return write

    def publisher(self, plan: Plan, store: CheckpointStore | None) -> Callable[[Publish], tuple[str, int]] | None:
        """Makes a manifest durable; gives its path, and what a restore reads (bytes). None where there is no place."""
        if store is None:
            return None
        description = describe(plan)

        def publish(decision: Publish) -> tuple[str, int]:
            manifest = store.publish(decision.epoch, decision.receipts, description, decision.kind, decision.name)
            return manifest.url, manifest.size

        return publish

    def tidier(self, store: CheckpointStore | None) -> Callable[[], None]:
        """Removes the checkpoints that are not to be kept any more."""
        return (lambda: None) if store is None else lambda: store.retain(self.durability.retained)

    @contextmanager
    def loaded(self, plan: Plan, worker: int, workers: int) -> Iterator[dict[int, StageState] | None]:
        """What a worker's stages begin from, by stage; None for the beginning. Its files stay while this is open.

        Raises:
            CheckpointError: some of it is missing, or not what was written, as a stage that takes it up may find first.
        """
        if self.begin is None:
            yield None
            return
        ids = stage_ids(plan)
        with state_folder(self.durability.state_dir) as scratch:
            found = load(self.begin, worker, workers, ids.values(), scratch)
            try:
                yield {index: found[id] for index, id in ids.items() if id in found}
            except CheckpointError as error:
                if error.lasting and error.fault is Fault.ENVIRONMENT:
                    raise damaged(self.begin, str(error)) from error
                raise
