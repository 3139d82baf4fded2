"""An object store on the local disk: no rename, only whole objects, copies and deletions."""

from __future__ import annotations

import os
import shutil
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem


class Bucket(AbstractFileSystem):
    """``bucket:///a/b`` is the object kept in the local file ``/a/b``.

    An object appears when its upload is closed. Moving one is a copy and a deletion, as fsspec does it.
    """

    protocol = "bucket"
    cachable = False

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if not os.path.isdir(path):
            return [self.info(path)] if detail else [path]
        names = sorted(f"{path}/{name}" for name in os.listdir(path) if not name.startswith("."))
        names += sorted(f"{path}/{name}" for name in os.listdir(path) if name.startswith(".sage"))
        return [self.info(name) for name in names] if detail else names

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        found = os.stat(path)
        return {"name": path, "size": found.st_size, "type": "directory" if os.path.isdir(path) else "file"}

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        self.makedirs(os.path.dirname(path2))
        upload = f"{os.path.dirname(path2)}/.upload-{os.path.basename(path2)}"
        shutil.copyfile(path1, upload)
        os.replace(upload, path2)

    def rm_file(self, path: str) -> None:
        os.remove(self._strip_protocol(path))

    def _rm(self, path: str) -> None:
        self.rm_file(path)

    def makedirs(self, path: str, exist_ok: bool = True) -> None:
        os.makedirs(self._strip_protocol(path), exist_ok=True)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        return _Upload(path) if "w" in mode else open(path, mode)


class _Upload:
    """Bytes that become an object when this is closed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._beside = f"{os.path.dirname(path)}/.upload-{os.path.basename(path)}"
        self._file = open(self._beside, "wb")  # noqa: SIM115 # closed below

    def write(self, data: Any) -> int:
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
            os.replace(self._beside, self._path)

    @property
    def closed(self) -> bool:
        return self._file.closed

    def __enter__(self) -> _Upload:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


fsspec.register_implementation("bucket", Bucket, clobber=True)
