"""Where the snapshots of a job live: what the workers store of each checkpoint, and the manifest that makes it one.

::

    <path>/<job>/OWNER.json                            who writes here
    <path>/<job>/chk-00000012/worker-0000.<run>.bin    what worker 0 holds
    <path>/<job>/chk-00000012/files.<run>/...          files that never change, of this checkpoint and later ones
    <path>/<job>/chk-00000012/MANIFEST.json            written last: the checkpoint is durable
    <path>/<job>/savepoints/<name>/...                 the same, complete in itself: it can be moved

A manifest names for each worker the parts from its last whole one on. What no manifest names is the rest of a
checkpoint that was given up, or of one that is not kept any more; it is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import socket
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NoReturn
from urllib.parse import quote

from sage.errors import CheckpointError
from sage.runners.engine.checkpoint.protocol import Kind, Receipt
from sage.runners.engine.checkpoint.snapshot import StageSnapshot, StageState
from sage.runners.state.manifests import MANIFEST, Manifest, manifest_bytes, manifest_of, moved, renamed
from sage.runners.state.objects import ObjectStore, objects_at
from sage.runners.state.rescaling import StateAssignment, encode_part
from sage.runners.state.restoring import (
    epoch_of,
    epochs_in,
    folder_of,
    load,
    manifest_at,
    name_of,
    read_manifest,
)

_LOOKS_ONE_IN = 30  # calls of `retain`
_OWNER, _LOCK, _SAVEPOINTS = "OWNER.json", "LOCK", "savepoints"

# What is the same at every attempt: the path has to be another one.
_WRONG_PATH = (FileNotFoundError, NotADirectoryError, FileExistsError, IsADirectoryError, PermissionError)


class CheckpointStore:
    """The checkpoints of one job below one path.

    A driver calls `acquire` first, and `new_run` before each of its attempts; its workers, in their processes, have
    stores of their own, and call `write` and `load` only.

    State: which files the worker's last part named; the last manifest, and what each of those that are kept names (None
    where that is not known); whether this driver has been given the path.

    Args:
        path: a local folder, or a path that fsspec knows.
        job: the job's name.
        run: tells what is written in this attempt from what a worker that was thought dead may write.
        objects: what to keep it in, instead of what ``path`` says.
        clock: tells the time (seconds since the epoch).
    """

    def __init__(
        self,
        path: str,
        job: str,
        run: str = "",
        objects: ObjectStore | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.job = job
        self.run = run
        self.origin = ""
        self._objects = objects or objects_at(posixpath.join(path, quote(job, safe="")))
        self._clock = clock
        self._token = ""
        self._known: dict[tuple[str, str], tuple[str, int]] = {}
        self._last: Manifest | None = None
        self._named: dict[int, set[str]] | None = None
        self._retained = 0
        self._superseded: set[int] = set()

    # The driver: who may write.

    def acquire(self) -> None:
        """Makes this driver the one that writes here, and removes what half-written checkpoints have left.

        Raises:
            CheckpointError: the path cannot be written to, or another driver that lives has it.
        """
        try:
            self._objects.lock(_LOCK)
        except BlockingIOError:
            raise CheckpointError(
                f"another driver{self._owner_text()} runs the job '{self.job}' with its checkpoints in {self.path}. "
                "End that one first, or give this one another --checkpoint_dir or --job_name"
            ) from None
        except OSError as error:
            self._cannot_write(error)
        self._token = uuid.uuid4().hex
        owner = {"token": self._token, "host": socket.gethostname(), "process": os.getpid()}
        try:
            self._objects.put(_OWNER, json.dumps(owner).encode())
            self._sweep(self.last_epoch())
        except OSError as error:
            self._cannot_write(error)

    def release(self) -> None:
        """Lets another driver write here."""
        self._objects.unlock()

    def new_run(self, run: str | None = None) -> str:
        """Begins another attempt; gives the ``run`` that its workers' stores are to have."""
        self.run = uuid.uuid4().hex[:8] if run is None else run
        self._last = None
        return self.run

    def _cannot_write(self, error: OSError) -> NoReturn:
        text = (
            f"checkpoints cannot be written to {self._objects.url}: {error.strerror or error}. "
            "Give a path that can be written to with --checkpoint_dir"
        )
        raise (CheckpointError.unfit(text) if isinstance(error, _WRONG_PATH) else CheckpointError(text)) from error

    def _owner(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._objects.get(_OWNER)))
        except (OSError, ValueError):
            return {}

    def _owner_text(self) -> str:
        owner = self._owner()
        return f" (process {owner['process']} at {owner['host']})" if "process" in owner else ""

    def _check_owner(self) -> None:
        if self._token and self._owner().get("token") != self._token:
            raise CheckpointError(
                f"another driver{self._owner_text()} has taken over the job '{self.job}' with its checkpoints in "
                f"{self.path}: this one must not go on"
            )

    # The workers: what they hold.

    def write(self, epoch: int, worker: int, stages: Mapping[str, StageSnapshot]) -> Receipt:
        """Stores a worker's part of a checkpoint.

        Files whose name was in the worker's last part are not stored again.

        Raises:
            CheckpointError: it cannot be written; the message names the path.
        """
        folder = folder_of(epoch)
        files: dict[str, dict[str, tuple[str, int]]] = {}
        try:
            for number, (stage, snapshot) in enumerate(stages.items()):
                place = f"{folder}/files.{self.run}/worker-{worker:04}/{number:03}"
                for name, path in snapshot.root.files.items():
                    stored = self._known.get((stage, name))
                    if stored is None:
                        stored = f"{place}/{name}", self._objects.upload(f"{place}/{name}", path)
                    files.setdefault(stage, {})[name] = stored
            data = encode_part(stages)
            path = f"{folder}/worker-{worker:04}.{self.run}.bin"
            self._objects.put(path, data)
        except OSError as error:
            self._cannot_write(error)
        self._known = {(stage, name): stored for stage, names in files.items() for name, stored in names.items()}
        whole = all(snapshot.root.whole for snapshot in stages.values())
        return Receipt(path, len(data), zlib.crc32(data), whole, files)

    def remember(self, manifest: Manifest, worker: int, workers: int) -> None:
        """A worker begins from a checkpoint of this store: the files that it is given back need not be stored again.

        Args:
            manifest: the checkpoint; one that is kept elsewhere makes no difference.
            worker: which worker it is.
            workers: how many there are now (count).
        """
        above, folder = posixpath.split(manifest.url)
        if above != self._objects.url:
            return
        for before in StateAssignment(worker, workers, manifest.workers).keyed_from:
            part = moved(manifest.chains[before][-1], folder, "")
            self._known.update(((stage, n), file) for stage, names in part.files.items() for n, file in names.items())

    # The driver: what is durable.

    def publish(
        self, epoch: int, receipts: Mapping[int, Receipt], description: Mapping[str, Any], kind: Kind, name: str = ""
    ) -> Manifest:
        """Makes a checkpoint durable: writes its manifest, and for a savepoint the copy that goes by its name.

        Raises:
            CheckpointError: it cannot be written, there is a savepoint of that name, or another driver has taken over.
        """
        folder = folder_of(epoch)
        chains = tuple(self._chain(worker, receipt, folder) for worker, receipt in sorted(receipts.items()))
        url = f"{self._objects.url}/{folder}"
        manifest = Manifest(url, epoch, self.job, kind, name, description, chains, self._clock(), self.origin)
        try:
            savepoint = self._copied(manifest, folder) if name else None
            self._check_owner()
            self._objects.create(f"{folder}/{MANIFEST}", manifest_bytes(manifest))
            if savepoint is not None:
                self._objects.create(f"{_savepoint(name)}/{MANIFEST}", manifest_bytes(savepoint))
        except FileExistsError as error:
            raise CheckpointError(f"somebody else has written checkpoint {epoch} to {url}") from error
        except OSError as error:
            self._cannot_write(error)
        self._last = manifest
        if self._named is not None:
            self._named[epoch] = _named_by(manifest, folder)
        return savepoint or manifest

    def _chain(self, worker: int, receipt: Receipt, folder: str) -> tuple[Receipt, ...]:
        part = moved(receipt, "", folder)
        if receipt.whole:
            return (part,)
        if self._last is None:
            raise CheckpointError(f"worker {worker} gave changes where nothing is that they change")
        return (*(moved(before, folder_of(self._last.epoch), folder) for before in self._last.chains[worker]), part)

    def _copied(self, manifest: Manifest, folder: str) -> Manifest:
        """A savepoint: all that a checkpoint names, in a folder of its own."""
        target = _savepoint(manifest.name)
        if any(name == f"{target}/{MANIFEST}" for name in self._objects.names()):
            raise CheckpointError(f"there is a savepoint '{manifest.name}' of the job '{self.job}' already")
        names: dict[str, str] = {}
        for number, path in enumerate(sorted(manifest.objects)):
            names[path] = f"{number:06}-{posixpath.basename(path)}"
            self._objects.copy(posixpath.normpath(f"{folder}/{path}"), f"{target}/{names[path]}")
        chains = tuple(tuple(renamed(part, names.__getitem__) for part in chain) for chain in manifest.chains)
        return replace(manifest, url=f"{self._objects.url}/{target}", chains=chains)

    def latest(self) -> Manifest | None:
        """The last checkpoint that is durable; None if there is none.

        Raises:
            CheckpointError: it is there and cannot be used; the message names what is wrong, and what can be used.
        """
        epochs = epochs_in(self._objects)
        return read_manifest(self._objects, folder_of(epochs[-1])) if epochs else None

    def choose(self, restore_from: str | None) -> Manifest | None:
        """What a job begins from: what it is told to, but the latest of its own once that has come of it.

        So a job that was begun from a savepoint, and is run again after a crash, does not begin there again.

        Args:
            restore_from: the path of a checkpoint or savepoint; None for the latest.

        Raises:
            CheckpointError: there is none at that path, or it cannot be used.
        """
        if restore_from is None or self._origin_of_last() == restore_from:
            chosen = self.latest()
            self._settle(chosen)
        else:
            chosen = manifest_at(restore_from)
            mine = chosen.job == self.job
            self._superseded = {e for e in epochs_in(self._objects) if not (mine and e <= chosen.epoch)}
        self.origin = restore_from or (chosen.origin if chosen is not None else "")
        return chosen

    def _settle(self, manifest: Manifest | None) -> None:
        """Sees to it that a checkpoint stays, before anything is done because of it: its driver may have died early."""
        if manifest is not None:
            try:
                self._objects.ensure_durable(f"{folder_of(manifest.epoch)}/{MANIFEST}")
            except OSError as error:
                self._cannot_write(error)

    def _origin_of_last(self) -> str | None:
        epochs = epochs_in(self._objects)
        if not epochs:
            return None
        name = f"{folder_of(epochs[-1])}/{MANIFEST}"
        try:
            return manifest_of(self._objects.get(name), name).origin
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def last_epoch(self) -> int:
        """The highest epoch that was begun, durable or not; 0 for none."""
        epochs = (epoch_of(name) for name in self._objects.names())
        return max((epoch for epoch in epochs if epoch is not None), default=0)

    def load(
        self, manifest: Manifest, worker: int, workers: int, stages: Iterable[str], scratch: str
    ) -> dict[str, StageState]:
        """What a worker is given back: see `sage.runners.state.restoring.load`."""
        objects = self._objects if posixpath.dirname(manifest.url) == self._objects.url else None
        return load(manifest, worker, workers, stages, scratch, objects)

    def savepoints(self) -> list[Manifest]:
        """The savepoints of the job, the oldest first; those that cannot be read are left out."""
        found = []
        for name in self._objects.names():
            folder, _, file = name.rpartition("/")
            if file == MANIFEST and folder.startswith(f"{_SAVEPOINTS}/"):
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    found.append(manifest_of(self._objects.get(name), f"{self._objects.url}/{folder}"))
        return sorted(found, key=lambda manifest: manifest.epoch)

    # The driver: what is kept.

    def retain(self, count: int) -> None:
        """Removes all but the last ``count`` checkpoints, and now and then what is left of those that were given up.

        Those that are later than the one that the job was told to begin from go with the first that it has made since:
        what they hold was taken back. Savepoints stay, and so does what later parts may still name.
        """
        # What it has published itself it need not look for: that takes longer than a checkpoint of little state.
        looks = self._named is None or not count or self._retained % _LOOKS_ONE_IN == 0
        self._retained += 1
        epochs = epochs_in(self._objects) if looks else sorted(self._named or ())
        superseded = self._superseded.intersection(epochs if self._last is not None else ())
        kept = [epoch for epoch in epochs if epoch not in superseded]
        gone = [*superseded, *kept[: max(0, len(kept) - count)]]
        self._superseded -= superseded
        for epoch in gone:
            self._objects.remove(f"{folder_of(epoch)}/{MANIFEST}")
        if looks:
            self._sweep(epochs[-1] if epochs else 0)
        elif self._named is not None:
            names = set().union(*[self._named.pop(epoch) for epoch in gone])
            for name in sorted(names.difference(*self._named.values())):
                self._objects.remove(name)

    def _sweep(self, epoch: int) -> None:
        """Removes what no manifest names, of checkpoints up to an epoch."""
        names = self._objects.names()
        self._named, named = None, {}
        for name in names:
            number = epoch_of(name)
            if number is not None and name.endswith(f"/{MANIFEST}"):
                folder = posixpath.dirname(name)
                try:
                    manifest = manifest_of(self._objects.get(name), folder)
                except (OSError, ValueError, KeyError, TypeError):
                    return  # whoever asks for this one is told; until then nobody knows what it names
                named[number] = _named_by(manifest, folder)
        kept = set().union(*named.values())
        for name in names:
            found = epoch_of(name)
            if found is not None and found <= epoch and name not in kept:
                self._objects.remove(name)
        self._named = named


def _named_by(manifest: Manifest, folder: str) -> set[str]:
    """The names of a manifest and of all that it names."""
    return {f"{folder}/{MANIFEST}", *(name_of(folder, path) for path in manifest.objects)}


def _savepoint(name: str) -> str:
    return f"{_SAVEPOINTS}/{quote(name, safe='')}"
