"""The fast line reader gives what Beam's text source gives, for every way to cut a file into ranges."""

from __future__ import annotations

import bz2
import gzip
import zlib

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from apache_beam import coders
from apache_beam.io import filesystem, textio
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.runners.local import LocalRunner
from sage.runners.worker import text_lines as textlines


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


def test_what_beam_reads_itself_is_read_to_its_end_too(tmp_path):
    file = tmp_path / "file.csv.gz"
    packed = gzip.compress(b"".join(b"%d,%d\n" % (n, n * 2654435761 % 2**32) for n in range(50_000)))
    file.write_bytes(packed)
    assert count_of(beam.io.ReadFromText(str(file), skip_header_lines=1)) == 49_999
    file.write_bytes(packed[:-50])
    with pytest.raises(OSError, match=r"file\.csv\.gz is cut off"):
        count_of(beam.io.ReadFromText(str(file), skip_header_lines=1))


def test_a_table_that_is_cut_off_or_none_is_named(tmp_path):
    file = tmp_path / "file.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), file)
    assert count_of(beam.io.ReadFromParquet(str(file))) == 1000
    for content in (file.read_bytes()[:-20], b"<!DOCTYPE html>"):
        file.write_bytes(content)
        with pytest.raises(pa.ArrowInvalid, match=r"Parquet.*file\.parquet; if the file is damaged"):
            count_of(beam.io.ReadFromParquet(str(file)))


def test_an_avro_file_that_is_cut_off_or_none_is_named(tmp_path):
    fastavro = pytest.importorskip("fastavro")
    file = tmp_path / "file.avro"
    schema = fastavro.parse_schema({"type": "record", "name": "r", "fields": [{"name": "a", "type": "long"}]})
    with file.open("wb") as out:
        fastavro.writer(out, schema, [{"a": number * 7919} for number in range(20_000)], codec="deflate")
    assert count_of(beam.io.ReadFromAvro(str(file))) == 20_000
    whole = file.read_bytes()
    for content in (whole[:-1], whole[:-8], whole[: len(whole) // 2], b"<!DOCTYPE html>"):
        file.write_bytes(content)
        with pytest.raises((ValueError, EOFError), match=r"file\.avro; if the file is damaged"):
            count_of(beam.io.ReadFromAvro(str(file)))


def count_of(transform):
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | transform | beam.Map(_count)
    (counted,) = pipeline.result.metrics().query()["counters"]
    return counted.committed


def _count(_):
    beam.metrics.Metrics.counter("test", "elements").inc()


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
