"""Reading checkpoints back: which one, whether it is whole, and what it gives a worker."""

from __future__ import annotations

import os
import posixpath
import re
import zlib
from collections.abc import Iterable

from sage.errors import CheckpointError
from sage.runners.engine.checkpoint.protocol import Receipt
from sage.runners.engine.checkpoint.snapshot import StageState
from sage.runners.state.manifests import MANIFEST, Manifest, manifest_of
from sage.runners.state.objects import ObjectStore, objects_at
from sage.runners.state.rescaling import Part, StateAssignment, decode_part, states_of

_LISTED = 5
_CHECKPOINT = re.compile(r"chk-(\d{8,})/(.*)")


def folder_of(epoch: int) -> str:
    """The folder of a checkpoint, below that of its job."""
    return f"chk-{epoch:08}"


def epoch_of(name: str) -> int | None:
    """The epoch of the checkpoint in whose folder an object is; None if it is elsewhere."""
    match = _CHECKPOINT.fullmatch(name)
    return int(match[1]) if match else None


def epochs_in(objects: ObjectStore) -> list[int]:
    """The epochs of the checkpoints that have a manifest, in order."""
    found = (_CHECKPOINT.fullmatch(name) for name in objects.names())
    return sorted(int(match[1]) for match in found if match and match[2] == MANIFEST)


def read_manifest(objects: ObjectStore, folder: str) -> Manifest:
    """The manifest in a folder, when all that it names is there.

    Raises:
        CheckpointError: it cannot be used; the message names the file, and the newest older checkpoint that is whole.
    """
    try:
        manifest = manifest_of(objects.get(f"{folder}/{MANIFEST}"), f"{objects.url}/{folder}")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError.unfit(_nothing_in(posixpath.join(objects.url, folder).removesuffix("/."))) from error
    except OSError as error:
        raise _unusable(objects, folder, MANIFEST, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _unusable(objects, folder, MANIFEST, f"cannot be read: {error}") from error
    for path, size in sorted(manifest.objects.items()):
        try:
            found = objects.size(name_of(folder, path))
        except OSError as error:
            raise _unusable(objects, folder, path, error) from error
        if found != size:
            raise _unusable(objects, folder, path, f"is torn: it has {found} of {size} bytes")
    return manifest


def manifest_at(path: str) -> Manifest:
    """The checkpoint or savepoint in a folder, which may be anywhere.

    Raises:
        CheckpointError: there is none that can be used.
    """
    return read_manifest(*_place(path))


def damaged(manifest: Manifest, why: str) -> CheckpointError:
    """The error of a checkpoint whose files were found and are not what they were; it says what can be used instead."""
    return CheckpointError.damaged(_cannot(*_place(manifest.url), why))


def verified(manifest: Manifest) -> list[bytes]:
    """Reads all that a checkpoint has stored of each worker, and gives the last part of each (see `decode_part`).

    Raises:
        CheckpointError: some of it is missing, or not what was written; the message names it.
    """
    reader = _Reader(*_place(manifest.url))
    return [[reader.data(receipt) for receipt in chain][-1] for chain in manifest.chains]


def load(
    manifest: Manifest,
    worker: int,
    workers: int,
    stages: Iterable[str],
    scratch: str,
    objects: ObjectStore | None = None,
) -> dict[str, StageState]:
    """What a worker is given back of a checkpoint: a state for each stage.

    Args:
        manifest: the checkpoint.
        worker: which worker this is.
        workers: how many there are now (count); it need not be as many as there were.
        stages: the stages there are now.
        scratch: a local folder of this worker's own, for copies of the checkpoint's files.
        objects: where to read, instead of where ``manifest`` says.

    Raises:
        CheckpointError: a file is missing or corrupt; the message names it, and what can be used instead.
    """
    base, folder = _place(manifest.url)
    deal = StateAssignment(worker, workers, manifest.workers)
    reader = _Reader(objects or base, folder)
    keyed = set(deal.keyed_from)
    chains = {
        before: [reader.part(receipt) for receipt in (chain if before in keyed else chain[-1:])]
        for before, chain in enumerate(manifest.chains)
        if before in keyed or before in deal.last_from
    }
    files = {before: reader.files(manifest.chains[before][-1], f"{scratch}/{before:04}") for before in sorted(keyed)}
    return states_of(deal, chains, files, stages)


class _Reader:
    """Reads what one manifest names."""

    def __init__(self, objects: ObjectStore, folder: str) -> None:
        self._objects = objects
        self._folder = folder

    def part(self, receipt: Receipt) -> Part:
        """What a worker has stored."""
        return decode_part(self.data(receipt))

    def data(self, receipt: Receipt) -> bytes:
        """The bytes of it."""
        try:
            data = self._objects.get(name_of(self._folder, receipt.path))
        except OSError as error:
            raise _unusable(self._objects, self._folder, receipt.path, error) from error
        if len(data) != receipt.size or zlib.crc32(data) != receipt.checksum:
            raise _unusable(self._objects, self._folder, receipt.path, "is not what was written")
        return data

    def files(self, receipt: Receipt, scratch: str) -> dict[str, dict[str, str]]:
        """Copies the files of a part; gives their paths, by stage and name."""
        found: dict[str, dict[str, str]] = {}
        for number, (stage, names) in enumerate(sorted(receipt.files.items())):
            for name, (path, _) in names.items():
                target = os.path.join(scratch, f"{number:03}", name)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                try:
                    self._objects.download(name_of(self._folder, path), target)
                except OSError as error:
                    raise _unusable(self._objects, self._folder, path, error) from error
                found.setdefault(stage, {})[name] = target
        return found


def name_of(folder: str, path: str) -> str:
    """The name of an object, by its path relative to a folder."""
    return posixpath.normpath(f"{folder}/{path}")


def _place(url: str) -> tuple[ObjectStore, str]:
    """The objects that a folder is among, and its name there."""
    parent, folder = posixpath.split(url.rstrip("/"))
    if parent.endswith(":"):
        return objects_at(url), "."  # all of a bucket
    return objects_at(parent or "."), folder


def _nothing_in(url: str) -> str:
    """That a folder is none of a checkpoint, and which of those below it are."""
    text = f"there is no checkpoint or savepoint in {url}"
    try:
        names = objects_at(url).names()
    except OSError:
        return text
    below = [f"{url}/{posixpath.dirname(name)}" for name in names if posixpath.basename(name) == MANIFEST]
    if not below:
        return text
    more = f" and {len(below) - _LISTED} others" if len(below) > _LISTED else ""
    return f"{text}; below it there are {', '.join(below[-_LISTED:])}{more}: name one of them"


def _unusable(objects: ObjectStore, folder: str, path: str, why: str | OSError) -> CheckpointError:
    """The error of a file that cannot be used. What is gone or not whole is so at the next attempt, too."""
    gone = isinstance(why, FileNotFoundError)
    what = "is missing" if gone else f"cannot be read: {why}" if isinstance(why, OSError) else why
    text = _cannot(objects, folder, f"{objects.url}/{name_of(folder, path)} {what}")
    return CheckpointError.damaged(text) if gone or isinstance(why, str) else CheckpointError(text)


def _cannot(objects: ObjectStore, folder: str, why: str) -> str:
    text = f"checkpoint {objects.url}/{folder} cannot be used: {why.rstrip('.')}."
    epoch = epoch_of(f"{folder}/")
    return text if epoch is None else text + _instead(_whole_before(objects, epoch))


def _instead(older: str | None) -> str:
    if older is None:
        return " There is no older one that is whole"
    return (
        f" The newest older checkpoint that is whole is {older}. To begin from it, give --restore_from={older}: "
        "what the job has put out since then is made again (files are replaced, rows with keys are written over, a "
        "table of rows without keys refuses, Kafka has the records twice)"
    )


def _whole_before(objects: ObjectStore, epoch: int) -> str | None:
    """The newest checkpoint before an epoch of which every byte is as it was written."""
    for older in reversed([known for known in epochs_in(objects) if known < epoch]):
        folder = folder_of(older)
        try:
            manifest = manifest_of(objects.get(f"{folder}/{MANIFEST}"), f"{objects.url}/{folder}")
            for receipt in (part for chain in manifest.chains for part in chain):
                data = objects.get(name_of(folder, receipt.path))
                if zlib.crc32(data) != receipt.checksum:
                    raise ValueError(receipt.path)
            if all(objects.size(name_of(folder, path)) == size for path, size in manifest.objects.items()):
                return manifest.url
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
