"""What all the sinks that write files have in common."""

import io
import os
from collections.abc import Callable
from typing import Any

import apache_beam as beam

from sage.errors import ConfigError
from sage.options import parse_bytes
from sage.transforms.io.formats import FileFormat, check_compression, compressed, compression_of
from sage.transforms.io.listing import existing_files
from sage.transforms.io.parts import PartOptions, WriteParts, WriteTimedParts
from sage.transforms.io.storage import Folder, parent_and_name

__all__ = ["FileSink", "ReplaceFile", "existing_files"]

EXISTING = ("refuse", "replace", "append")


class FileSink(beam.PTransform):
    """A sink of files: one file if the path has an ending, as ``out/letters.jsonl``, else a folder of parts.

    **One file** is for bounded input that fits in one worker's memory. It is gathered, sorted and replaced as a whole:
    equal input gives equal bytes, on every runner. Output: the path, once the file is in place.

    **A folder** takes any amount of input, bounded or not, and every worker writes its own parts:
    ``part-<subtask>-<epoch>``, and the format's suffix. Output: nothing. No file is empty, and none is seen before it
    is whole. What is promised:

    - On SAGE's local runner with checkpoints: exactly once. The files of a checkpoint appear when it is durable; after
      a crash, those that it holds are renamed if they were not yet, and what was written after it is removed and
      written again. A job that goes on from an older checkpoint removes the parts of later ones first.
    - On SAGE's local runner without checkpoints: exactly once, at the end. All files appear when all input has been
      written; of a job that fails, none. (Input without an end then never shows a file: give ``--checkpoint_dir``.)
    - On other runners, SAGE's on Ray and Flink among them: the files of a bundle appear when it ends, under names of
      their own. A bundle that the runner repeats may leave its files twice, and ``existing`` is not looked at.

    The path is local, or any that fsspec knows (``s3://``, ``gs://``, ``abfs://``, ``memory://`` ...). A local file is
    synced and renamed. On an object store the upload is completed before the checkpoint, and committing is a copy on
    the server: readers see whole objects only.

    A folder belongs to one step of one job; its notes are in a hidden folder, ``.sage-<id>``. Files of other steps and
    jobs are never touched.

    Args:
        path: the file, or the folder.
        format: what the files are made of.
        destination: for a folder, which folder below it an element goes to: a function of the element, or a pattern of
            ``strftime`` that is filled with its event time in UTC, as ``"day=%Y-%m-%d/hour=%H"``. An element that comes
            out of a window has the time of the window's end.
        suffix: for a folder, the ending of its files' names.
        max_file_bytes: for a folder, when a part is full and the next begins (bytes before compression, or text as
            ``"256MB"``; default: no limit within an epoch).
        existing: for a folder, what a job that begins anew does about output that is there: ``"refuse"`` to run,
            ``"replace"`` what an earlier run of this step wrote, when its own files appear, or ``"append"`` files of
            other names. Default: ``"replace"`` for bounded input, else ``"refuse"``. A job that goes on from a
            checkpoint goes on with its files.

    Raises:
        ConfigError: an argument is wrong, or one file is asked for of input without an end (when applied); the folder
            has files that it should not have (when run).
        DataLoss: somebody removed hidden files that a checkpoint holds (when run).
        OSError: the disk is full, or the path cannot be written to; it says which and what to do (when run).
    """

    def __init__(
        self,
        path: str,
        format: FileFormat,
        *,
        destination: Callable[[Any], str] | str | None = None,
        suffix: str | None = None,
        max_file_bytes: int | str | None = None,
        existing: str | None = None,
    ) -> None:
        super().__init__()
        self.path = os.fspath(path)
        self.format = format
        name = parent_and_name(self.path)[1]
        self.one_file = name not in ("", ".", "..") and bool(os.path.splitext(name)[1])
        given = {"destination": destination, "suffix": suffix, "max_file_bytes": max_file_bytes, "existing": existing}
        for_folders = next((key for key, value in given.items() if value is not None), None)
        if self.one_file and for_folders:
            raise ConfigError(
                f"{self.path!r} is one file, as its ending says, and {for_folders} is for folders; write to a folder "
                f"with {self.path.removesuffix(os.path.splitext(name)[1])!r} or {self.path + '/'!r}"
            )
        if existing not in (None, *EXISTING):
            raise ConfigError(f"existing={existing!r} is not one of {', '.join(map(repr, EXISTING))}")
        limit = None if max_file_bytes is None else parse_bytes(max_file_bytes)
        if limit is not None and limit < 1:
            raise ConfigError("max_file_bytes must be above zero; leave it out for no limit")
        ending = format.suffix if suffix is None else suffix
        if "/" in ending or not ending.startswith("."):
            raise ConfigError(f"suffix={ending!r} is not the ending of a name: it begins with a dot, as '.jsonl.gz'")
        check_compression(name if self.one_file else ending)
        self._options = PartOptions(ending, destination, limit, existing)

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[Any]:
        if not self.one_file:
            options = self._options.completed(elements.is_bounded)
            sink = WriteTimedParts if isinstance(options.destination, str) else WriteParts
            return elements | "Parts" >> beam.ParDo(sink(self.path, self.format, options))
        if not elements.is_bounded:
            raise ConfigError(
                f"{self.path!r} is one file, which is written when all input has been read, and this input has no end; "
                f"write to a folder, as {self.path + '/'!r}"
            )
        chunks = elements | "Globally" >> beam.WindowInto(beam.window.GlobalWindows()) | "Whole" >> self.whole()
        return chunks | "Write" >> ReplaceFile(self.path)

    def whole(self) -> beam.PTransform:
        """What makes of all elements the one list of chunks that the one file is made of."""
        raise NotImplementedError


class ReplaceFile(beam.PTransform):
    """Write one file from the one element of the input, replacing what is there.

    Input: a PCollection with exactly one element, a list of ``bytes`` or ``str`` chunks (text is written as UTF-8).
    Output: the path, once the file is in place; a later step can wait for it.

    Promise, on every runner: the file appears whole, by rename. If the step is retried, the file is written again and
    the last one stays; equal input gives equal bytes.

    Args:
        path: the file to write, local or on any file system that fsspec knows. Missing folders are made. The ending
            ``.gz``, ``.bz2``, ``.zst`` or ``.lz4`` compresses it.

    Raises:
        ConfigError: the ending is that of a compression that is not written (when constructed).
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        check_compression(path)
        self._path = path

    def expand(self, chunks: beam.PCollection[Any]) -> beam.PCollection[str]:
        return chunks | "Replace" >> beam.Map(_replace, self._path)


def _replace(chunks: list[Any], path: str) -> str:
    folder, name = parent_and_name(path)
    data = [chunk.encode() if isinstance(chunk, str) else chunk for chunk in chunks]
    compression = compression_of(name)
    if compression is not None:
        packed = io.BytesIO()
        with compressed(packed, compression) as stream:
            stream.write(b"".join(data))
        data = [packed.getvalue()]
    Folder(folder).replace(name, data)
    return path
