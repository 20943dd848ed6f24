"""Downloads of the archives that the report trained on: resumed after a broken connection, and checked."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, md5
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLError
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from impasto.core.errors import BadParameter, Unavailable
from impasto.core.files import write_bytes
from impasto.core.names import unknown

PATIENCE = 30.0
"""Seconds without a byte after which a connection counts as broken."""

CHUNK = 1 << 18
"""Bytes between two reports of progress."""


@dataclass(frozen=True)
class Source:
    """An archive: its address, its size in bytes and its MD5 in hexadecimal."""

    url: str
    size: int
    md5: str


SOURCES = {
    "coco": Source("http://images.cocodataset.org/zips/val2014.zip", 6_645_013_297, "a3d79f5ed8d289b7a7554ce06a5782b3"),
    "tinyimagenet": Source(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip", 248_100_043, "90528d7ca1a48142e341f4ef8d21d0de"
    ),
}


def fetch(
    name: str, folder: Path, *, url: str | None = None, on_progress: Callable[[int, int], None] | None = None
) -> Path:
    """Download the archive of a dataset to `folder`, from its home or from `url`, unless it is there. Return its path.

    `on_progress` gets the bytes that are there and the bytes of the whole. A download that breaks off leaves
    `<file>.part`, from which the next one goes on. Raises NotFound for an unknown name, BadParameter for a `url` that
    is not HTTP, and Unavailable where the server cannot be reached, the connection breaks, the disk has no room or the
    bytes are not the archive's.
    """
    if name not in SOURCES:
        raise unknown("dataset to fetch", name, SOURCES)
    source = SOURCES[name]
    url = url or source.url
    if urlsplit(url).scheme not in ("http", "https"):
        raise BadParameter(f"{url} cannot be fetched: an address begins with http:// or https://.", url=url)
    path = folder / f"{name}.zip"  # where `core.datasets` finds it
    if path.exists():
        if not _is_whole(path, source):
            raise Unavailable(f"{path} is not the archive of {name} (MD5 {source.md5}). Remove it and run again.")
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    way_out = f"Run again to go on, or fetch {source.url} by hand and put it at {path}."
    _check_room(part, source.size)
    with _explained(url, way_out):
        _download(url, part, source.size, way_out, on_progress or (lambda done, total: None))
    if not _is_whole(part, source):
        _forget(part)
        raise Unavailable(f"What came from {url} is not {name} (MD5 {source.md5}), and was deleted. {way_out}")
    part.replace(path)
    _forget(part)
    return path


def _is_whole(path: Path, source: Source) -> bool:
    """Compare the size first, as reading all of COCO takes a while."""
    if path.stat().st_size != source.size:
        return False
    with path.open("rb") as file:
        return file_digest(file, lambda: md5(usedforsecurity=False)).hexdigest() == source.md5


def _check_room(part: Path, size: int) -> None:
    """Raise Unavailable where the disk has no room for the rest of `size` bytes."""
    missing, free = size - _size(part), shutil.disk_usage(part.parent).free
    if missing > free:
        raise Unavailable(
            f"{missing / 1e9:.1f} GB are still to be downloaded, and {part.parent} has {free / 1e9:.1f} GB free."
            " Make room there, or name another folder.",
            missing=missing,
            free=free,
        )


def _download(url: str, part: Path, size: int, way_out: str, on_progress: Callable[[int, int], None]) -> None:
    """Fill `part` up to `size` bytes, from where it ends if the server can. Raises urllib's errors too."""
    if _size(part) == size:
        return
    with _ask(url, part) as response:
        done = _size(part) if response.status == 206 else 0
        length = response.length  # None if the server does not say
        if length is not None and done + length != size:
            raise Unavailable(f"{url} has {done + length:,} bytes, and the archive has {size:,}. {way_out}")
        with part.open("ab" if done else "wb") as file:
            if not done:
                _remember_version(part, response)
            on_progress(done, size)
            while done <= size and (chunk := response.read(CHUNK)):
                file.write(chunk)
                done += len(chunk)
                on_progress(done, size)
            file.flush()
            os.fsync(file.fileno())
    if done < size:
        raise Unavailable(f"The connection to {url} ended after {done:,} of {size:,} bytes. {way_out}")


def _ask(url: str, part: Path) -> HTTPResponse:
    """Return the answer: 206 with the rest of `part`, or 200 with all of it."""
    headers = {"User-Agent": "impasto"}
    if have := _size(part):
        headers["Range"] = f"bytes={have}-"
        if _version(part).exists():
            headers["If-Range"] = _version(part).read_text()
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=PATIENCE)
        return response
    except HTTPError as error:
        if not have or error.code != 416:  # Range Not Satisfiable: the server's file is shorter than our part
            raise
        error.close()
    _forget(part)
    return _ask(url, part)


@contextmanager
def _explained(url: str, way_out: str) -> Iterator[None]:
    """Raise errors of the network as Unavailable; a disk's OSError passes."""
    try:
        yield
    except (URLError, HTTPException, TimeoutError, ConnectionError, SSLError) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise Unavailable(f"{url} could not be fetched: {error}. {way_out}") from error


def _remember_version(part: Path, response: HTTPResponse) -> None:
    """Keep the file's ETag or date, so that the rest of another version is never added to it (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    # A weak ETag, W/"…", does not name bytes.
    version = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    if version:
        write_bytes(_version(part), version.encode())
    else:
        _version(part).unlink(missing_ok=True)


def _version(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _size(part: Path) -> int:
    """Return the size in bytes; 0 for no file."""
    return part.stat().st_size if part.exists() else 0


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version(part).unlink(missing_ok=True)
