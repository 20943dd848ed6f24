"""Files: written so that a reader, or a crash, never meets half of one, and read again when they have changed."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from typing import Generic, TypeVar

T = TypeVar("T")


@contextmanager
def replacing(path: Path, *, exclusive: bool = False, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside `path`. At the end of the block it is synced and replaces `path`, with `mode`.

    Where the block raises, `path` stays as it was. With `exclusive` nothing is replaced: raises FileExistsError where
    `path` exists by then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix, delete=False) as file:
        temporary = Path(file.name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(mode)
        if exclusive:
            os.link(temporary, path)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` at the end of the block, unless `path` exists by then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        for file in filter(Path.is_file, temporary.rglob("*")):
            _sync(file)
        temporary.chmod(0o755)  # others may read it: an image is built by root and run by nobody
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def stamp(path: Path) -> tuple[int, int]:
    """Time of the last change in ns, and size: they differ when the file has changed. Raises OSError."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


class FileCache(Generic[T]):
    """The result of `read` for each file, computed again when the file has changed."""

    def __init__(self, read: Callable[[Path], T]) -> None:
        self._read = read
        self._found: dict[Path, tuple[tuple[int, int], T]] = {}  # with the stamp of the file that was read

    def __call__(self, path: Path) -> T:
        """Raises FileNotFoundError where there is no file, and what `read` raises."""
        now = stamp(path)  # before the file is read: a change in between is seen at the next call
        if path not in self._found or self._found[path][0] != now:
            self._found[path] = now, self._read(path)
        return self._found[path][1]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_bytes(path: Path, data: bytes) -> None:
    """Write all of `data`, or nothing."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
