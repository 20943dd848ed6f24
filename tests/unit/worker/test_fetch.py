"""Fetching from a real server on the loopback, one that misbehaves in the ways that servers do."""

import re
import shutil
from collections.abc import Iterator
from hashlib import md5
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from impasto.core.errors import BadParameter, NotFound, Unavailable
from impasto.worker import fetch as fetching
from impasto.worker.fetch import SOURCES, Source, fetch

ARCHIVE = bytes(range(256)) * 40
FETCHED = "coco.zip"


class Server(HTTPServer):
    """One file, under any address. The attributes say how well it is served."""

    file = ARCHIVE
    etag: str | None = '"first"'
    ranges = True
    lengths = True
    status: int | None = None
    cut: int | None = None
    """Bytes after which the connection is dropped."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{FETCHED}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers["Range"]
        server.asked.append(wanted)
        if server.status:
            return self.send_error(server.status)
        start = 0
        if wanted and server.ranges and self.headers["If-Range"] in (None, server.etag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.file):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.file) - 1}/{len(server.file)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.lengths:
            self.send_header("Content-Length", str(len(server.file) - start))
        self.end_headers()
        self.wfile.write(server.file[start : server.cut])

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setitem(SOURCES, "coco", Source(server.url, len(ARCHIVE), md5(ARCHIVE).hexdigest()))
        yield server
        server.shutdown()
        thread.join()


def test_the_real_sources_are_what_the_report_trained_on() -> None:
    assert {name: source.url.rsplit("/", 1)[1] for name, source in SOURCES.items()} == {
        "coco": "val2014.zip",
        "tinyimagenet": "tiny-imagenet-200.zip",
    }
    assert all(re.fullmatch("[0-9a-f]{32}", source.md5) for source in SOURCES.values())


def test_fetches_once(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "archives"
    assert fetch("coco", folder) == folder / FETCHED
    assert (folder / FETCHED).read_bytes() == ARCHIVE
    assert [path.name for path in folder.iterdir()] == [FETCHED]
    fetch("coco", folder)
    assert server.asked == [None]


def test_progress_counts_up_to_the_whole(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "CHUNK", 4096)
    seen: list[tuple[int, int]] = []
    fetch("coco", tmp_path, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 10240) for done in (0, 4096, 8192, 10240)]


def test_a_server_that_tells_no_length(server: Server, tmp_path: Path) -> None:
    server.lengths = False
    assert fetch("coco", tmp_path).read_bytes() == ARCHIVE


def test_another_address(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "coco", Source("http://127.0.0.1:9/other.zip", len(ARCHIVE), md5(ARCHIVE).hexdigest()))
    assert fetch("coco", tmp_path, url=server.url) == tmp_path / FETCHED


def broken_off(server: Server, folder: Path, cut: int = 3000) -> Path:
    """The part that a fetch leaves whose connection is dropped after `cut` bytes."""
    server.cut = cut
    with pytest.raises(Unavailable, match=f"ended after {cut:,} of 10,240 bytes. Run again"):
        fetch("coco", folder)
    server.cut = None
    part = folder / f"{FETCHED}.part"
    assert part.read_bytes() == server.file[:cut]
    assert not (folder / FETCHED).exists()
    return part


@pytest.mark.parametrize("etag", ['"first"', 'W/"weak"', None])
def test_goes_on_where_the_connection_broke(server: Server, tmp_path: Path, etag: str | None) -> None:
    server.etag = etag
    broken_off(server, tmp_path)
    seen: list[int] = []
    assert fetch("coco", tmp_path, on_progress=lambda done, total: seen.append(done)).read_bytes() == ARCHIVE
    assert server.asked == [None, "bytes=3000-"]
    assert seen == [3000, 10240]
    assert [path.name for path in tmp_path.iterdir()] == [FETCHED]


def test_breaks_off_twice(server: Server, tmp_path: Path) -> None:
    broken_off(server, tmp_path)
    broken_off(server, tmp_path, cut=7000)
    assert fetch("coco", tmp_path).read_bytes() == ARCHIVE
    assert server.asked == [None, "bytes=3000-", "bytes=7000-"]


def test_a_server_that_ignores_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    broken_off(server, tmp_path)
    assert fetch("coco", tmp_path).read_bytes() == ARCHIVE


def test_a_file_that_changed_starts_over(server: Server, tmp_path: Path) -> None:
    server.file, server.etag = ARCHIVE[::-1], '"old"'
    broken_off(server, tmp_path)
    server.file, server.etag = ARCHIVE, '"new"'
    assert fetch("coco", tmp_path).read_bytes() == ARCHIVE


def test_a_file_that_changed_unnoticed_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.file, server.etag = ARCHIVE[::-1], None
    broken_off(server, tmp_path)
    server.file = ARCHIVE
    with pytest.raises(Unavailable, match="is not coco"):
        fetch("coco", tmp_path)
    assert fetch("coco", tmp_path).read_bytes() == ARCHIVE


def test_a_part_longer_than_the_file_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{FETCHED}.part").write_bytes(ARCHIVE + b"more")
    assert fetch("coco", tmp_path).read_bytes() == ARCHIVE
    assert server.asked == ["bytes=10244-", None]


def test_a_whole_part_needs_no_server(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{FETCHED}.part").write_bytes(ARCHIVE)
    assert fetch("coco", tmp_path).read_bytes() == ARCHIVE
    assert server.asked == []


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.file = ARCHIVE[::-1]
    with pytest.raises(Unavailable, match=r"is not coco .* was deleted"):
        fetch("coco", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_length_is_seen_before_the_bytes_come(server: Server, tmp_path: Path) -> None:
    part = broken_off(server, tmp_path)
    server.file, server.etag = b"<html>Log in to this network</html>", None
    with pytest.raises(Unavailable, match="has 35 bytes, and the archive has 10,240"):
        fetch("coco", tmp_path)
    assert part.read_bytes() == ARCHIVE[:3000]


def test_a_file_that_does_not_end_is_cut_short(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "CHUNK", 4096)
    server.file, server.lengths = ARCHIVE * 9, False
    seen: list[int] = []
    with pytest.raises(Unavailable, match="is not coco"):
        fetch("coco", tmp_path, on_progress=lambda done, total: seen.append(done))
    assert seen == [0, 4096, 8192, 12288]


@pytest.mark.parametrize("status", [404, 416, 503])
def test_a_server_that_refuses(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(Unavailable, match=f"HTTP Error {status}.*by hand and put it at .*{FETCHED}"):
        fetch("coco", tmp_path)


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/{FETCHED}"
    with pytest.raises(
        Unavailable, match=r"could not be fetched: .*refused.*Run again to go on, or fetch http\S+ by hand"
    ):
        fetch("coco", tmp_path, url=url)


def test_no_room(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=7000))
    with pytest.raises(Unavailable, match="Make room") as caught:
        fetch("coco", tmp_path)
    assert caught.value.extra == {"missing": 10240, "free": 7000}
    (tmp_path / f"{FETCHED}.part").write_bytes(ARCHIVE[:5000])
    assert fetch("coco", tmp_path).read_bytes() == ARCHIVE


def test_a_strangers_file_is_left_alone(server: Server, tmp_path: Path) -> None:
    path = tmp_path / FETCHED
    path.write_bytes(ARCHIVE[::-1])
    with pytest.raises(Unavailable, match="Remove it"):
        fetch("coco", tmp_path)
    assert path.read_bytes() == ARCHIVE[::-1]


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Did you mean 'tinyimagenet"):
        fetch("tiny-imagenet", tmp_path)


def test_only_http(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="begins with http"):
        fetch("coco", tmp_path, url="file:///etc/hostname")
