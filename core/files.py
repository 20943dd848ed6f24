"""Writing files so that a reader, or a crash, never meets half of one."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp


@contextmanager
def replacing(path: Path, *, exclusive: bool = False, mode: int = 0o644) -> Iterator[Path]:
    """A temporary path beside `path`; when the block ends it is synced and takes the place of `path`, with `mode`.

    When the block raises, `path` stays as it was. With `exclusive` nothing is replaced: raises FileExistsError where
    there is something at `path` by then.
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
    """A temporary folder that becomes `path` when the block ends; where another was first, that one stays."""
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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_bytes(path: Path, data: bytes) -> None:
    """The whole of `data`, or nothing."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
