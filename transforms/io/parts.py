"""Folders of part files, one set for each checkpoint: the sink behind `WriteText`, `WriteJsonLines`, `WriteParquet`
and `WriteAvro` when they are given a folder.

What lies in the folder::

    events/part-0-7.jsonl              subtask 0, epoch 7
    events/part-0-7-1.jsonl            the same, begun when the one before had ``max_file_bytes``
    events/day=2024-02-29/part-0-7...  where ``destination`` says so
    events/.sage-3f9a27c1/             what belongs to one step of one job, and is invisible to readers:
        owner                          which step and job these are
        0-b41c77aa-12.tmp              a file of an epoch that is not committed
        done-0                         the last epoch that subtask 0 committed, of each of its starts
        stale-0-b41c77aa               files that this start of subtask 0 removes when it commits for the first time
"""

# Annotations are evaluated here, not postponed: Beam reads them as type hints and takes a string for Any.
import collections
import dataclasses
import hashlib
import json
import logging
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from sage.errors import ConfigError, DataLoss
from sage.transactions import SinkContext, TransactionalDoFn
from sage.transforms.io.destinations import check_destination, fill_pattern
from sage.transforms.io.formats import FileFormat, FileWriter
from sage.transforms.io.part_files import PartFile, PartFiles
from sage.transforms.io.storage import Folder, cannot_write, naming_file, not_stored, writing

__all__ = ["PartOptions", "WriteParts", "WriteTimedParts"]

_HIDDEN = re.compile(r"\.sage-[0-9a-z]+/")
_PART = re.compile(r"(?:.*/)?part-(?:(r[0-9a-f]{7})-)?(\d+)-(\d+)(?:-\d+)?")
# Files that are open (count). The least recently written one makes room, to be opened again.
_MAX_OPEN = 100
_MAX_BUFFERED = 64 << 20
# A part takes some memory even if it keeps nothing. Beyond these, the least recently written one is finished.
_MAX_PARTS = 10_000
# How many starts of a subtask are remembered as committed: one that crashes again and again must not fill a file.
_MAX_DONE = 100
_RELEASED = Metrics.counter("sage.io", "buffers_released")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartOptions:
    """How a folder of parts is laid out.

    Attributes:
        suffix: the ending of the names; one that ends with ``.gz``, ``.bz2``, ``.zst`` or ``.lz4`` compresses text.
        destination: the folder below for an element: a function of it, or a pattern of ``strftime`` that is filled with
            its event time (UTC; each year has four digits); None for the folder itself.
        max_file_bytes: a file that has so many (bytes, before compression) is followed by another; None for no limit.
        existing: what a job that begins anew does about files that are there: ``refuse``, ``replace``, ``append``; None
            to replace for bounded input and to refuse for other.
    """

    suffix: str
    destination: Callable[[Any], str] | str | None = None
    max_file_bytes: int | None = None
    existing: str | None = None

    def completed(self, bounded: bool) -> "PartOptions":
        """These options for input with or without an end."""
        return dataclasses.replace(self, existing=self.existing or ("replace" if bounded else "refuse"))


class Prepared(NamedTuple):
    """The files of one epoch and subtask: safe, and invisible. What a checkpoint holds of this sink."""

    home: str
    subtask: int
    start: str
    epoch: int
    label: str
    files: tuple[tuple[str, str], ...]
    replaces: bool


class _Part(NamedTuple):
    """A file that is being written."""

    file: PartFile
    writer: FileWriter


class WriteParts(TransactionalDoFn):
    """Writes elements into the parts of a folder.

    A file is written under a hidden name in the folder, made safe at the barrier and renamed when the checkpoint is
    durable. Which of its files a subtask committed last is noted, so that a file that a reader has taken away since is
    not mistaken for a lost one.

    State: the files by destination that are being written, and the finished ones of the epoch. Of the former 100 are
    open at a time; together they keep 64 MiB in memory, beyond which the largest ones write out what they have (the
    counter ``sage.io/buffers_released``).

    Args:
        path: the folder, a local path or one that fsspec knows.
        format: what the files are made of.
        options: how they are laid out.
    """

    def __init__(self, path: str, format: FileFormat, options: PartOptions) -> None:
        self._path = path
        self._format = format
        self._options = options
        self._open: collections.OrderedDict[str, _Part] = collections.OrderedDict()
        self._finished: list[tuple[str, str]] = []
        self._buffered = 0

    def display_data(self) -> dict[str, Any]:
        return {"path": self._path, "suffix": self._options.suffix}

    # -- the life of a subtask ------------------------------------------------------------------------------------

    def recover(self, context: SinkContext, prepared: Sequence[Prepared]) -> None:
        self._subtask, self._subtasks = context.subtask, context.subtasks
        self._start = uuid.uuid4().hex[:8]
        self._made = 0
        self._open = collections.OrderedDict()
        self._finished = []
        self._buffered = 0
        self._folder = Folder(self._path)
        self._files = PartFiles(self._folder, _MAX_OPEN)
        self._replaces = False
        self._swept = not self._managed
        if not self._managed:
            # Nobody says which run or worker this is: names of its own, and no hand on anybody else's.
            self._hidden = ".sage-tmp"
            self._label = _new_label()
            return
        self._hidden = ".sage-" + hashlib.sha256(f"{context.job}\0{context.step}".encode()).hexdigest()[:8]
        for handle in prepared:
            self.commit(handle)
        self._remove_hidden(context.earlier)
        if any(handle.home != self._hidden for handle in prepared):
            # A savepoint of another job, which may go on: from here on under names that are not its.
            self._label = _new_label()
            self._own(context)
        elif prepared:
            self._label = prepared[-1].label
            self._rewind(context.earlier, prepared)
        else:
            self._label = _new_label() if self._options.existing == "append" else ""
            if context.earlier == (context.subtask,):
                self._claim(context)

    def process(self, element: Any) -> Iterable[Any]:
        choose: Any = self._options.destination
        self._write("" if choose is None else choose(element), element)
        return ()

    def prepare(self, epoch: int) -> Prepared:
        for destination in list(self._open):
            self._finish(destination)
        self._files.release()
        finished, self._finished = self._finished, []
        self._folder.sync(hidden for _, hidden in finished)
        count: collections.Counter[str] = collections.Counter()
        files = []
        for destination, hidden in finished:
            number = count[destination]
            count[destination] += 1
            name = f"{self._subtask}-{epoch}" + (f"-{number}" if number else "") + self._options.suffix
            label = f"{self._label}-" if self._label else ""
            files.append((hidden, f"{destination}/" * bool(destination) + f"part-{label}{name}"))
        # An epoch without files is told too: that there is a handle is how a resumed subtask knows that it is one.
        replaces, self._replaces = self._replaces, False
        return Prepared(self._hidden, self._subtask, self._start, epoch, self._label, tuple(files), replaces)

    def commit(self, handle: Prepared) -> None:
        if handle.replaces:
            self._remove_stale(handle)
        if handle.files:
            self._publish(handle)
        if handle.start == self._start and not self._swept:
            self._swept = True
            self._remove_hidden([self._subtask], beyond=self._subtask == 0)
            self._forget_stale()

    def teardown(self) -> None:
        for part in self._open.values():
            self._files.abandon(part.file)
        self._open.clear()
        if not self._managed and hasattr(self, "_folder"):
            self._folder.remove_folder(self._hidden)

    # -- files ----------------------------------------------------------------------------------------------------

    def _publish(self, handle: Prepared) -> None:
        missing = self._folder.publish(handle.files)
        note = f"{handle.home}/done-{handle.subtask}"
        done = dict(json.loads(self._folder.read(note) or b"{}")) if self._managed else {}
        if missing and done.get(handle.start, -1) < handle.epoch:
            raise DataLoss(
                f"files of {self._path!r} that the checkpoint holds are gone, such as {missing[0]!r} (epoch "
                f"{handle.epoch}): somebody removed them from {handle.home!r}, or the job was given another output "
                "folder, and they are in the one it had. Give it that folder again; or make them again by starting "
                "the job from an older checkpoint or from its beginning; or go on without them, under another name "
                "of the step and with --allow_dropped_state."
            )
        if self._managed and done.get(handle.start, -1) < handle.epoch:
            done.pop(handle.start, None)
            kept = dict([*done.items(), (handle.start, handle.epoch)][-_MAX_DONE:])
            self._note(note, kept)

    def _write(self, destination: str, element: Any) -> None:
        part = self._open.get(destination)
        if part is None:
            part = self._begin(destination)
        elif len(self._open) > 1:
            self._open.move_to_end(destination)
        limit = self._options.max_file_bytes
        writer = part.writer
        before = writer.buffered
        try:
            size = writer.write(element)
        except OSError as error:
            raise cannot_write(f"{self._path}/{destination}", error) from error
        except (TypeError, ValueError) as error:
            raise not_stored(f"{self._path}/{destination}", error) from error
        self._buffered += writer.buffered - before
        if limit is not None and size >= limit:
            self._finish(destination)
        elif self._buffered > _MAX_BUFFERED and len(self._open) > 1:
            self._release()

    def _begin(self, destination: str) -> _Part:
        check_destination(destination)
        if len(self._open) >= _MAX_PARTS:
            self._finish(next(iter(self._open)))
        hidden = f"{self._hidden}/{self._subtask}-{self._start}-{self._made}.tmp"
        self._made += 1
        file: Any = self._files.create(hidden)
        part = self._open[destination] = _Part(file, self._format.open(file, self._options.suffix))
        self._buffered += part.writer.buffered
        return part

    def _release(self) -> None:
        """Has the parts that keep most in memory write it out, until half of what they may keep is free."""
        largest = sorted(self._open.items(), key=lambda item: item[1].writer.buffered, reverse=True)
        # What writes out some of its memory only is asked a second time.
        for destination, part in (*largest, *largest):
            if self._buffered <= _MAX_BUFFERED // 2:
                break
            before = part.writer.buffered
            with writing(f"{self._path}/{destination}"), naming_file(f"{self._path}/{destination}"):
                part.writer.release()
            self._buffered += part.writer.buffered - before
            _RELEASED.inc()

    def _finish(self, destination: str) -> None:
        part = self._open[destination]
        with writing(f"{self._path}/{destination}"), naming_file(f"{self._path}/{destination}"):
            self._buffered -= part.writer.buffered
            part.writer.close()
        self._files.seal(part.file)
        del self._open[destination]
        self._finished.append((destination, part.file.name))

    # -- what earlier runs left -----------------------------------------------------------------------------------

    def _remove_hidden(self, subtasks: Collection[int], beyond: bool = False) -> None:
        """Removes the files that earlier starts left and no checkpoint holds.

        On recovery those of the subtasks that this one answers for: what the checkpoint holds of them is committed.
        Once a checkpoint of this start is durable, all that any checkpoint held is committed: then those of this
        number, and ``beyond``, by one subtask for all, those of numbers that there are no more.
        """
        mine = f"{self._subtask}-{self._start}-"
        leftovers = []
        for name in self._folder.files(self._hidden):
            last = name.rpartition("/")[2]
            number = last.partition("-")[0]
            if not last.endswith(".tmp") or not number.isdigit() or last.startswith(mine):
                continue
            if int(number) in subtasks or (beyond and int(number) >= self._subtasks):
                leftovers.append(name)
        self._folder.remove(leftovers)

    def _rewind(self, earlier: tuple[int, ...], prepared: Sequence[Prepared]) -> None:
        """Supersedes files of epochs after the checkpoint: a resumed job makes them again.

        There are some only where the job goes on from an older checkpoint than its last.
        """
        labels, last = {handle.label for handle in prepared}, max(handle.epoch for handle in prepared)
        later = [
            name
            for name, label, subtask, epoch in self._parts()
            if label in labels and subtask in earlier and epoch > last
        ]
        if later:
            message = "%s: %d files of epochs after %d are written again, and stay until the next checkpoint"
            _LOG.warning(message, self._path, len(later), last)
            self._supersede(later, earlier, last)

    def _supersede(self, files: Sequence[str], subtasks: Sequence[int], after: int) -> None:
        """Has files that subtasks committed in epochs after one removed when this start commits for the first time:
        until then the job may still go on from a checkpoint that counts on them.
        """
        self._replaces = True
        stale = {"files": files, "subtasks": subtasks, "after": after}
        self._note(f"{self._hidden}/stale-{self._subtask}-{self._start}", stale)

    def _remove_stale(self, handle: Prepared) -> None:
        note = f"{handle.home}/stale-{handle.subtask}-{handle.start}"
        data = self._folder.read(note)
        if data is None:
            return
        stale = json.loads(data)
        for subtask in stale["subtasks"]:
            # Who goes on from a checkpoint that holds them is to hear of it, and not to think that a reader took them.
            name = f"{handle.home}/done-{subtask}"
            done = json.loads(self._folder.read(name) or b"{}")
            self._note(name, {start: min(epoch, stale["after"]) for start, epoch in done.items()})
        self._folder.remove(stale["files"])
        self._folder.remove([note])

    def _forget_stale(self) -> None:
        """Removes the notes of starts that did not come to their first commit."""
        notes = [name for name in self._folder.files(self._hidden) if f"/stale-{self._subtask}-" in name]
        self._folder.remove([name for name in notes if not name.endswith(f"-{self._start}")])

    def _claim(self, context: SinkContext) -> None:
        """Makes the folder this step's, or refuses it."""
        # Noted once the folder is found fit: that it is says that the parts are this step's own.
        owned = self._folder.exists(f"{self._hidden}/owner")
        existing = self._options.existing or "refuse"
        if existing != "append":
            self._refuse_others(context)
            self._judge(context, owned, existing)
        if not owned:
            self._own(context)
            if existing != "append":
                self._refuse_others(context)

    def _own(self, context: SinkContext) -> None:
        self._note(f"{self._hidden}/owner", {"job": context.job, "step": context.step})

    def _refuse_others(self, context: SinkContext) -> None:
        for name in self._folder.files():
            if name.endswith("/owner") and _HIDDEN.match(name) and not name.startswith(f"{self._hidden}/"):
                about = json.loads(self._folder.read(name) or b"{}")
                raise ConfigError(
                    f"the folder {self._path!r} belongs to step {about.get('step')!r} of job {about.get('job')!r}. "
                    "Give each step a folder of its own, or write beside it with existing='append'; if nobody needs "
                    f"it any more, remove {name.partition('/')[0]!r} in it."
                )

    def _judge(self, context: SinkContext, owned: bool, existing: str) -> None:
        there = [name for name in self._folder.files() if self._is_output(name)]
        ours = {name: subtask for name, _, subtask, _ in self._parts()} if owned else {}
        foreign = [name for name in there if name not in ours]
        if foreign or (there and existing == "refuse"):
            what = "files that this step did not write" if foreign else "files of an earlier run"
            advice = "existing='append' writes beside them" + ("" if foreign else ", existing='replace' removes them")
            raise ConfigError(
                f"the folder {self._path!r} has {what}, such as {(foreign or there)[0]!r}. Choose another folder or "
                f"move them away; {advice}. (A job that is resumed from a checkpoint goes on with its own files.)"
            )
        # Only subtask n makes names with n, so each removes what it may write anew.
        stale = [name for name, n in ours.items() if (n if n < context.subtasks else 0) == context.subtask]
        if stale:
            self._supersede(stale, (context.subtask,), -1)

    def _note(self, name: str, content: Any) -> None:
        # Under a hidden name that `recover` removes, if that is as far as it gets.
        hidden = f"{self._hidden}/{self._subtask}-note.tmp"
        self._folder.replace(name, [json.dumps(content).encode()], hidden)

    def _is_output(self, name: str) -> bool:
        return name.endswith(self._options.suffix) and not name.startswith(".sage-")

    def _parts(self) -> Iterable[tuple[str, str, int, int]]:
        """Name, label, subtask and epoch of each part in the folder."""
        for name in self._folder.files():
            match = _PART.fullmatch(name.removesuffix(self._options.suffix)) if self._is_output(name) else None
            if match:
                yield name, match[1] or "", int(match[2]), int(match[3])


class WriteTimedParts(WriteParts):
    """`WriteParts` with destinations by event time."""

    def process(self, element: Any, timestamp: Any = beam.DoFn.TimestampParam) -> Iterable[Any]:
        self._write(fill_pattern(self._options.destination, timestamp), element)
        return ()


def _new_label() -> str:
    return "r" + uuid.uuid4().hex[:7]
