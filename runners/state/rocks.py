"""Keyed state in RocksDB, by rocksdict: rows on disk, and checkpoints that are files which never change.

Nothing is logged ahead: what is to outlast the process is in checkpoints. A checkpoint is hard links to the files that
are there anyway, so it costs what was written since the one before.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sage.errors import CheckpointError, MissingExtra

if TYPE_CHECKING:
    from rocksdict import Options, Rdict

BLOCK_CACHE_BYTES = 128 << 20
WRITE_BUFFER_BYTES = 32 << 20
CELLS_BYTES = 64 << 20
BLOOM_SHARE = 0.05
"""How much of the write buffer the filter of its keys may take: most keys that are asked for are not in it."""
_BATCH_ROWS = 10_000
_LAST = b"\xff" * 8  # behind every row: none begins with a group like this
_DATA = ".sst"


class RocksBackend:
    """The stores of one worker: a folder for each step, and one cache for all.

    Args:
        directory: an empty folder; whoever made it removes it when the stores are closed.
        cells_bytes: what each step may hold of its state as objects (bytes).

    Raises:
        MissingExtra: rocksdict is not installed.
    """

    def __init__(self, directory: str, cells_bytes: int = CELLS_BYTES) -> None:
        try:
            import rocksdict
        except ImportError:
            raise MissingExtra("--state_backend=rocksdb", "rocksdb") from None
        self._directory = directory
        self._cells_bytes = cells_bytes
        self._cache = rocksdict.Cache(BLOCK_CACHE_BYTES)
        self._stores: list[RocksStore] = []

    def store(self, step: str) -> RocksStore:
        """A new store for a step."""
        folder = os.path.join(self._directory, str(len(self._stores)))
        store = RocksStore(folder, self._cache, self._cells_bytes)
        self._stores.append(store)
        return store

    def close(self) -> None:
        """Closes all stores; their files are there to be removed."""
        for store in self._stores:
            store.close()


class RocksStore:
    """The rows of one step, as a `KeyedStore`.

    State: the database, the files of the last checkpoint, and the name under which each of its data files is known.
    RocksDB numbers files anew in each database, so those that one makes are known by a name of its own too, and those
    that were restored by the name that they had.

    Args:
        folder: where to put it.
        cache: what of the files is kept in memory.
        cells_bytes: what the step may hold of its state as objects (bytes).
    """

    def __init__(self, folder: str, cache: Any, cells_bytes: int = CELLS_BYTES) -> None:
        self.cells_bytes = cells_bytes
        self._folder = folder
        self._cache = cache
        self._own = uuid.uuid4().hex[:12]
        self._names: dict[str, str] = {}
        self._count = 0
        self._checkpoint: str | None = None
        self._path = os.path.join(folder, "db")
        os.makedirs(self._path)
        self._open()

    def _open(self) -> None:
        self._db = _opened(self._path, self._cache)

    def get(self, row: bytes) -> bytes | None:
        """The data of a row."""
        data: bytes | None = self._db.get(row)
        return data

    def put(self, row: bytes, data: bytes) -> None:
        """Writes a row."""
        self._db.put(row, data)

    def delete(self, row: bytes) -> None:
        """Removes a row, if it is there."""
        self._db.delete(row)

    def write(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Writes rows, or removes those whose data is None; of two with the same place the later one stays."""
        from rocksdict import WriteBatch

        batch = WriteBatch(raw_mode=True)
        # In order of their places: each is then found from where the one before was put.
        for row, data in sorted(rows, key=itemgetter(0)):
            if data is None:
                batch.delete(row)
            else:
                batch.put(row, data)
        self._db.write(batch)

    def delete_range(self, begin: bytes, end: bytes) -> None:
        """Removes all rows from ``begin`` on and before ``end``."""
        self._db.delete_range(begin, end)

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All rows from ``begin`` on and before ``end``, in order."""
        return _scan(self._db, begin, end)

    def checkpoint(self) -> Mapping[str, str]:
        """The rows as files that never change, name to path; they stay until the next call.

        Raises:
            CheckpointError: the disk does not take them.
        """
        from rocksdict import Checkpoint

        self._count += 1
        target = os.path.join(self._folder, f"checkpoint-{self._count}")
        try:
            self._db.flush()
            Checkpoint(self._db).create_checkpoint(target)
        except Exception as error:
            raise CheckpointError(f"keyed state in {self._folder} cannot be written: {error}") from error
        if self._checkpoint is not None:
            shutil.rmtree(self._checkpoint, ignore_errors=True)
        self._checkpoint = target
        files = {}
        for file in sorted(os.listdir(target)):
            if file.endswith(_DATA):
                name = self._names.setdefault(file, f"{self._own}.{file}")
            else:
                name = f"{self._own}-{self._count}.{file}"
            files[name] = os.path.join(target, file)
        return files

    def restore(self, files: Sequence[Mapping[str, str]], ranges: Sequence[tuple[bytes, bytes]] | None) -> None:
        """Takes the rows of stores that there were.

        The largest is gone on with, its other rows removed; the rows of the others are added.

        Raises:
            CheckpointError: the files are no database.
        """
        sizes = [sum(map(os.path.getsize, old.values())) for old in files]
        order = sorted(range(len(files)), key=sizes.__getitem__, reverse=True)
        stores = [files[index] for index in order if files[index]]
        if not stores:
            return
        self.close()
        shutil.rmtree(self._path)
        try:
            _place(stores[0], self._path)
            self._open()
            for begin, end in _complement(ranges):
                self._db.delete_range(begin, end)
            self._db.flush()  # in a file, ranges that were removed slow down nobody who reads
            for old in stores[1:]:
                self._add(old, ranges or [(b"", _LAST)])
        except OSError as error:
            raise CheckpointError(f"keyed state cannot be put in {self._path}: {error}") from error
        except Exception as error:
            raise CheckpointError.damaged(f"keyed state cannot be read back from its files: {error}") from error
        self._names = {_local(name): name for name in stores[0] if name.endswith(_DATA)}

    def _add(self, old: Mapping[str, str], ranges: Sequence[tuple[bytes, bytes]]) -> None:
        path = os.path.join(self._folder, "old")
        _place(old, path)
        source = _opened(path, self._cache)
        try:
            rows = chain.from_iterable(_scan(source, *each) for each in ranges)
            while some := list(islice(rows, _BATCH_ROWS)):
                self.write(some)
        finally:
            source.close()
            shutil.rmtree(path)

    def close(self) -> None:
        """Closes the database, if it is open; its files stay."""
        from rocksdict import DbClosedError

        with contextlib.suppress(DbClosedError):
            self._db.close()


def _opened(path: str, cache: Any) -> Rdict:
    from rocksdict import Rdict, WriteOptions

    database = Rdict(path, _options(cache))
    write: Any = WriteOptions()
    write.disable_wal = True  # a property, whatever its stub says
    database.set_write_options(write)
    return database


def _options(cache: Any) -> Options:
    from rocksdict import BlockBasedIndexType, BlockBasedOptions, DBCompressionType, Options

    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_bloom_filter(10, False)
    # Index and filter count as part of the cache, since of many keys they are what takes memory. In one piece they
    # would be larger than what one shard of the cache takes, and be read from disk each time.
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_pin_top_level_index_and_filter(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(BLOOM_SHARE)
    options.set_max_background_jobs(2)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_keep_log_file_num(1)
    return options


def _scan(database: Rdict, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
    from rocksdict import ReadOptions

    read = ReadOptions()
    read.set_iterate_upper_bound(end)
    yield from database.items(from_key=begin, read_opt=read)


def _complement(ranges: Sequence[tuple[bytes, bytes]] | None) -> Iterator[tuple[bytes, bytes]]:
    """The rows that are in none of the ranges."""
    if ranges is None:
        return
    before = b""
    for begin, end in [*ranges, (_LAST, b"")]:
        if before < begin:
            yield before, begin
        before = end


def _local(name: str) -> str:
    """What RocksDB calls a file."""
    return name.partition(".")[2]


def _place(files: Mapping[str, str], path: str) -> None:
    """Makes a database folder of files, which are used up."""
    os.makedirs(path)
    for name, file in files.items():
        shutil.move(file, os.path.join(path, _local(name)))
