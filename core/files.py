"""Writing files so that a reader, or a crash, never meets half of one."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; when the block ends it is synced and takes the place of `path`.

    When the block raises, `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix, delete=False) as file:
        temporary = Path(file.name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
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
        if not path.exists():
            with suppress(FileExistsError):
                temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """The whole of `data`, or nothing."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
