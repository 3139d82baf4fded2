"""The fast line reader gives what Beam's text source gives, for every way to cut a file into ranges."""

from __future__ import annotations

import bz2
import gzip
import zlib

import pytest
import zstandard
from apache_beam import coders
from apache_beam.io import filesystem, textio
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.runners.hosting import textlines


def read_both(path: str, chunk: int) -> tuple[list[list[str]], list[list[str]]]:
    source = textio._TextSource(
        path, 1, filesystem.CompressionTypes.AUTO, True, coders.StrUtf8Coder(), validate=False
    )
    fast, slow = [], []
    for bundle in source.split(chunk):
        tracker = bundle.source.get_range_tracker(bundle.start_position, bundle.stop_position)
        found = textlines.fast_read(bundle.source, tracker)
        assert found is not None, "the source of a plain text file is recognised"
        fast.append(list(found))
        tracker = bundle.source.get_range_tracker(bundle.start_position, bundle.stop_position)
        slow.append(list(bundle.source.read(tracker)))
    return fast, slow


LINES = st.lists(st.sampled_from(["", "a", "\r", "b\r", "\x0b\x85", "é", "long " * 5, " \u2028x"]), max_size=12)


@settings(deadline=None, max_examples=150)
@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.integers(1, 40), st.sampled_from([1, 2, 7, 64]))
def test_same_lines_in_every_range(tmp_path_factory, lines, ending, ended, split, chunk):
    file = tmp_path_factory.mktemp("text") / "file.txt"
    text = ending.join(lines) + (ending if ended else "")
    file.write_bytes(text.encode())
    before = textlines.CHUNK_BYTES
    textlines.CHUNK_BYTES = chunk
    try:
        fast, slow = read_both(str(file), split)
    finally:
        textlines.CHUNK_BYTES = before
    assert fast == slow


def test_a_line_that_is_not_utf8_raises_after_the_lines_before_it(tmp_path):
    file = tmp_path / "file.txt"
    file.write_bytes(b"good\nb\xffd\nnever\n")
    source = textio._TextSource(
        str(file), 1, filesystem.CompressionTypes.AUTO, True, coders.StrUtf8Coder(), validate=False
    )
    (bundle,) = source.split(1 << 20)
    found = iter(textlines.fast_read(bundle.source, bundle.source.get_range_tracker(None, None)))
    assert next(found) == "good"
    with pytest.raises(UnicodeDecodeError):
        next(found)


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".deflate": zlib.compress, ".zst": zstandard.compress}


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("part", [0.01, 0.5, 0.999])
def test_a_compressed_file_that_is_cut_off_fails_and_gives_no_half_line(tmp_path, ending, part):
    lines = [str(number * 2654435761 % 2**32) for number in range(20_000)]
    file = tmp_path / f"file.txt{ending}"
    packed = PACK[ending]("\n".join(lines).encode())
    found = []
    file.write_bytes(packed[: int(len(packed) * part)])
    with pytest.raises(OSError, match=r"file\.txt.* is cut off"):
        found.extend(read_whole(str(file)))
    assert found == lines[: len(found)]
    for whole in (packed, packed + PACK[ending](b"\nmore")):
        file.write_bytes(whole)
        assert list(read_whole(str(file))) == lines + ["more"] * (whole is not packed)


def read_whole(path):
    source = textio._TextSource(
        path, 1, filesystem.CompressionTypes.AUTO, True, coders.StrUtf8Coder(), validate=False
    )
    (bundle,) = source.split(1 << 20)
    yield from textlines.fast_read(bundle.source, bundle.source.get_range_tracker(None, None))


def test_a_file_that_cannot_be_decompressed_is_named(tmp_path):
    file = tmp_path / "file.txt.gz"
    whole = gzip.compress(b"line\n" * 10_000)
    file.write_bytes(whole[:20] + b"\x00\xff" * 8 + whole[36:])
    source = textio._TextSource(
        str(file), 1, filesystem.CompressionTypes.AUTO, True, coders.StrUtf8Coder(), validate=False
    )
    (bundle,) = source.split(1 << 20)
    with pytest.raises(zlib.error, match=r"file\.txt\.gz"):
        list(textlines.fast_read(bundle.source, bundle.source.get_range_tracker(None, None)))
