"""Objects by key, in a folder and in S3."""

import os
from pathlib import Path

import pytest

from impasto.core.errors import NoSpace, NotFound, Unavailable
from impasto.core.jobs.storage import PIECE, FolderStorage, Storage, open_storage
from tests.helpers.servers import free_port


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "storage"))


def test_what_is_put_comes_back(storage, tmp_path):
    storage.put("jobs/a/1/result.png", b"123")
    (tmp_path / "file").write_bytes(b"456")
    storage.put("jobs/a/1/state.pt", tmp_path / "file")
    assert storage.get("jobs/a/1/result.png") == b"123"
    storage.fetch("jobs/a/1/state.pt", tmp_path / "copy" / "state.pt")
    assert (tmp_path / "copy" / "state.pt").read_bytes() == b"456"
    storage.put("jobs/a/1/result.png", b"789")
    assert storage.get("jobs/a/1/result.png") == b"789"


@pytest.mark.parametrize("size", [1, PIECE, 2 * PIECE + 1])
def test_an_object_comes_in_pieces(storage, size):
    data = os.urandom(size)
    storage.put("jobs/a/1/result.png", data)
    told, stream = storage.stream("jobs/a/1/result.png")
    if isinstance(storage, FolderStorage):
        storage.put("jobs/a/1/result.png", b"the next preview")
    pieces = list(stream)
    assert (told, b"".join(pieces)) == (size, data)
    assert max(map(len, pieces)) <= PIECE
    with pytest.raises(NotFound):
        storage.stream("jobs/b")


def test_what_is_not_there(storage, tmp_path):
    with pytest.raises(NotFound):
        storage.get("jobs/a")
    with pytest.raises(NotFound):
        storage.fetch("jobs/a", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    storage.erase("jobs/a")
    assert storage.groups("jobs") == {}


def test_erasing_takes_all_under_a_prefix_and_no_more(storage):
    for key in ("jobs/a/1/x", "jobs/a/inputs/y", "jobs/ab/1/x"):
        storage.put(key, b"1")
    storage.erase("jobs/a")
    assert list(storage.groups("jobs")) == ["ab"]
    storage.erase("jobs/ab/1/x")
    with pytest.raises(NotFound):
        storage.get("jobs/ab/1/x")


def test_groups_have_the_time_of_their_newest(storage, tmp_path):
    storage.put("jobs/a/1/x", b"1")
    storage.put("jobs/a/1/y", b"1")
    for path in (tmp_path / "storage").rglob("*"):
        os.utime(path, (1000, 1000))
    os.utime(tmp_path / "storage/jobs/a/1/y", (2000, 2000))
    assert storage.groups("jobs") == {"a": 2000}


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be used"):
        FolderStorage(tmp_path / "file" / "storage").put("a", b"1")


def test_a_full_disk_keeps_nothing_half(tiny_disk):
    storage = FolderStorage(tiny_disk)
    storage.put("jobs/a/1/x", b"1" * 100_000)
    with pytest.raises(NoSpace, match="full"):
        storage.put("jobs/a/1/x", b"2" * 200_000)
    assert storage.get("jobs/a/1/x") == b"1" * 100_000
    assert [path.name for path in tiny_disk.rglob("*") if path.is_file()] == ["x"]


def test_s3(monkeypatch, tmp_path):
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    server = moto.ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        import urllib.request

        urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT")).close()
        storage = open_storage("s3://bucket/some/prefix")
        test_what_is_put_comes_back(storage, tmp_path)
        test_an_object_comes_in_pieces(storage, 2 * PIECE + 1)
        storage.erase("jobs")
        test_erasing_takes_all_under_a_prefix_and_no_more(storage)
        test_what_is_not_there(open_storage("s3://bucket/other"), tmp_path / "other")
    finally:
        server.stop()
    with pytest.raises(Unavailable):
        storage.get("jobs/a")
