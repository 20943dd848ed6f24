"""The files of jobs, sent to them and made by them, by key: in a folder, or in a bucket of S3.

Keys are ours, `jobs/<id>/…`, and what a worker writes is under its attempt's number: one that has lost its job cannot
overwrite what the next one makes. An object is there whole or not at all.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from impasto.core.errors import ImpastoError, NoSpace, NotFound, Unavailable
from impasto.core.files import replacing

PIECE = 1 << 18
"""Bytes of an object that are in memory at once while it is streamed."""


class Storage(Protocol):
    """Every method raises Unavailable where the storage cannot be used, NoSpace where it is full."""

    def put(self, key: str, data: bytes | Path) -> None:
        """Keep bytes, or a copy of a file."""

    def get(self, key: str) -> bytes:
        """Raises NotFound."""

    def stream(self, key: str) -> tuple[int, Iterator[bytes]]:
        """Return the size of an object in bytes, and its bytes in pieces of at most `PIECE`. Raises NotFound."""

    def fetch(self, key: str, path: Path) -> None:
        """Copy an object to a file. Raises NotFound."""

    def groups(self, prefix: str) -> dict[str, float]:
        """The next parts after `prefix` in the keys, each with the time of its newest object, seconds since 1970."""

    def erase(self, prefix: str) -> None:
        """Remove the object of that key, or all under it; nothing to do is no error."""


def open_storage(where: str) -> Storage:
    """The storage at `where`: `s3://bucket/prefix`, or else a folder, made when something is put there.

    S3 takes its credentials, region and endpoint as its other clients do, from AWS_ACCESS_KEY_ID and so on.
    """
    if where.startswith("s3://"):
        return S3Storage(where)
    return FolderStorage(Path(where).expanduser())


class FolderStorage:
    """`Storage` in a folder of this machine, or one that machines share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, data: bytes | Path) -> None:
        with self._errors(key), replacing(self.folder / key) as temporary:
            if isinstance(data, Path):
                shutil.copyfile(data, temporary)
            else:
                temporary.write_bytes(data)

    def get(self, key: str) -> bytes:
        with self._errors(key):
            return (self.folder / key).read_bytes()

    def stream(self, key: str) -> tuple[int, Iterator[bytes]]:
        with self._errors(key):
            file = (self.folder / key).open("rb")
        pieces = _pieces(file)
        next(pieces)  # a generator that has begun closes the file, also if nobody reads on
        return os.fstat(file.fileno()).st_size, pieces

    def fetch(self, key: str, path: Path) -> None:
        with self._errors(key), replacing(path) as temporary:
            shutil.copyfile(self.folder / key, temporary)

    def groups(self, prefix: str) -> dict[str, float]:
        groups = {}
        with self._errors(prefix):
            for place in (self.folder / prefix).glob("*"):
                with suppress(FileNotFoundError):  # somebody else erases it
                    groups[place.name] = max(path.stat().st_mtime for path in (place, *place.rglob("*")))
        return groups

    def erase(self, prefix: str) -> None:
        path = self.folder / prefix
        with self._errors(prefix):
            while path.is_dir():
                try:
                    shutil.rmtree(path)
                except FileNotFoundError:  # somebody else erases it, too
                    continue
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:  # somebody writes there still
                        raise
            path.unlink(missing_ok=True)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound(f"There is no {key} in the storage.") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _full(str(self.folder)) from error
            raise _unavailable(str(self.folder), error) from error


class S3Storage:
    """`Storage` in a bucket of S3, or of anything that speaks its protocol."""

    def __init__(self, url: str) -> None:
        from obstore.store import S3Store

        self.url = url
        self._store: Any = S3Store.from_url(
            url,
            client_options={"connect_timeout": "2s", "timeout": "60s", "allow_http": True},
            retry_config={"max_retries": 1},
        )

    def put(self, key: str, data: bytes | Path) -> None:
        with self._errors(key):
            self._store.put(key, data)

    def get(self, key: str) -> bytes:
        with self._errors(key):
            return bytes(self._store.get(key).bytes())

    def stream(self, key: str) -> tuple[int, Iterator[bytes]]:
        with self._errors(key):
            first = self._store.get(key, options={"range": (0, PIECE)})
        return first.meta["size"], self._pieces(key, first)

    def _pieces(self, key: str, first: Any) -> Iterator[bytes]:
        """A request for each piece: whoever reads slowly would exceed the time limit of one for all."""
        size, same = first.meta["size"], first.meta["e_tag"]
        with self._errors(key):
            yield bytes(first.bytes())
            for start in range(PIECE, size, PIECE):
                options = {"range": (start, min(start + PIECE, size)), "if_match": same}
                yield bytes(self._store.get(key, options=options).bytes())

    def fetch(self, key: str, path: Path) -> None:
        with self._errors(key), replacing(path) as temporary, temporary.open("wb") as file:
            for chunk in self._store.get(key).stream():
                file.write(chunk)

    def groups(self, prefix: str) -> dict[str, float]:
        groups: dict[str, float] = {}
        with self._errors(prefix):
            for page in self._store.list(prefix):
                for found in page:
                    group = found["path"].removeprefix(prefix).strip("/").split("/")[0]
                    groups[group] = max(groups.get(group, 0.0), found["last_modified"].timestamp())
        return groups

    def erase(self, prefix: str) -> None:
        with self._errors(prefix):
            keys = [found["path"] for page in self._store.list(prefix) for found in page]
            self._store.delete([prefix, *keys])

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except ImpastoError:
            raise
        except FileNotFoundError as error:
            raise NotFound(f"There is no {key} in the storage.") from error
        except Exception as error:  # obstore has a tree of its own, of which nothing is to be told apart
            raise _unavailable(self.url, error) from error


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        yield b""
        while piece := file.read(PIECE):
            yield piece


def _full(place: str) -> NoSpace:
    message = "The storage of jobs is full. Erase jobs, or let the results expire sooner."
    return NoSpace(message, private=place, retry_after=60)


def _unavailable(place: str, error: Exception) -> Unavailable:
    return Unavailable("The storage of jobs cannot be used.", private=f"{place}: {error}", retry_after=5)
