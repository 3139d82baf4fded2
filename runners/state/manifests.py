"""Manifests: what says that a checkpoint is durable, and what it is made of."""

from __future__ import annotations

import json
import posixpath
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sage.runners.engine.checkpoint.protocol import Kind, Receipt

MANIFEST = "MANIFEST.json"
_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """A checkpoint that is durable.

    Attributes:
        url: the path of its folder.
        epoch: its number.
        job: the job it is of.
        kind: what it was taken for.
        name: of a savepoint; empty for none.
        description: of the plan, as `sage.runners.engine.checkpoint.identity.describe` gives it.
        chains: for each worker, its parts from the last whole one on; their paths are relative to the folder.
        created: when it was written (seconds since the epoch).
        origin: the path that the first run of its line was told to begin from; empty for none.
    """

    url: str
    epoch: int
    job: str
    kind: Kind
    name: str
    description: Mapping[str, Any]
    chains: tuple[tuple[Receipt, ...], ...]
    created: float
    origin: str = ""

    @property
    def workers(self) -> int:
        """How many workers it was taken at (count)."""
        return len(self.chains)

    @property
    def finished(self) -> bool:
        """Whether all input had ended."""
        return self.kind is Kind.FINAL

    @property
    def objects(self) -> dict[str, int]:
        """The size (bytes) of each object that it names, by path relative to its folder."""
        found = {part.path: part.size for chain in self.chains for part in chain}
        found.update(file for chain in self.chains for names in chain[-1].files.values() for file in names.values())
        return found

    @property
    def size(self) -> int:
        """How much a restore reads, all workers together (bytes)."""
        return sum(self.objects.values())


def renamed(part: Receipt, name_of: Callable[[str], str]) -> Receipt:
    """A part whose paths are others."""
    files = {
        stage: {name: (name_of(path), size) for name, (path, size) in names.items()}
        for stage, names in part.files.items()
    }
    return replace(part, path=name_of(part.path), files=files)


def moved(part: Receipt, source: str, target: str) -> Receipt:
    """A part whose paths are relative to the folder ``target``, of one with paths relative to ``source``."""
    return renamed(part, lambda path: posixpath.relpath(f"/{source}/{path}", f"/{target}"))


def manifest_bytes(manifest: Manifest) -> bytes:
    """A manifest as JSON, with the checksum of what it says."""
    content = vars(manifest) | {"kind": manifest.kind.value}
    del content["url"]
    text = json.dumps(content, sort_keys=True, default=vars)
    return f'{{"format": {_FORMAT}, "checksum": {zlib.crc32(text.encode())}, "manifest": {text}}}'.encode()


def manifest_of(data: bytes, url: str) -> Manifest:
    """A manifest from its JSON.

    Raises:
        ValueError: it is torn, changed, or of a format that is not known here.
    """
    whole = json.loads(data)
    if not isinstance(whole, dict) or whole.get("format") != _FORMAT:
        raise ValueError("it is of another format")
    content = whole["manifest"]
    if zlib.crc32(json.dumps(content, sort_keys=True).encode()) != whole["checksum"]:
        raise ValueError("it is not what was written")
    chains = tuple(tuple(_receipt_of(part) for part in chain) for chain in content.pop("chains"))
    return Manifest(url=url, chains=chains, kind=Kind(content.pop("kind")), **content)


def _receipt_of(content: Mapping[str, Any]) -> Receipt:
    files: Mapping[str, Mapping[str, Sequence[Any]]] = content["files"]
    pairs = {stage: {name: (f[0], f[1]) for name, f in names.items()} for stage, names in files.items()}
    return Receipt(content["path"], content["size"], content["checksum"], content["whole"], pairs)
