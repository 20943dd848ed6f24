"""The sandbox and what it holds: real children, and files that really make them hang, or take too much."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np
import psutil
import pytest
from PIL import Image

from impasto.core.errors import BadParameter, BadPicture, ImpastoError, TooLarge, Unavailable, UnsupportedFormat
from impasto.core.pictures import forkserver
from impasto.core.pictures.codec import decode
from impasto.core.pictures.sandbox import InPlace, Sandbox, Terms, open_sandbox
from impasto.core.settings import ROOT
from tests.helpers.pictures import display_p3, far, oriented, png, sample, saved, slope, slow_picture
from tests.helpers.processes import wait_for


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(Terms())


@pytest.fixture
def hurried() -> Sandbox:
    return Sandbox(Terms(seconds=1))


@pytest.fixture
def narrow() -> Sandbox:
    """With little memory."""
    return Sandbox(Terms(memory=150_000_000))


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[forkserver.ForkServer]:
    """For one test, and not started before: it has the command and the environment of the moment when it is needed."""
    server = forkserver.ForkServer()
    monkeypatch.setattr(forkserver, "server", server)
    yield server
    server.close()


def at_work(used: float = 0.2) -> psutil.Process:
    """The child that has worked for `used` seconds, once there is one."""

    def found() -> psutil.Process | None:
        for child in children():
            with suppress(psutil.Error):  # it may be gone by now
                if child.cpu_times().user > used:
                    return child
        return None

    child: psutil.Process = wait_for(found)
    return child


def large_picture() -> bytes:
    """24 megapixels that take 600 MB to decode."""
    return saved(Image.new("F", (6000, 4000), 0.5), "TIFF")


def children() -> list[psutil.Process]:
    """Of the fork server."""
    process = forkserver.server._process
    return psutil.Process(process.pid).children() if process else []


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "HEIF", "AVIF"])
def test_what_comes_out_is_what_decoding_in_place_gives(sandbox: Sandbox, format: str) -> None:
    mine, known = sandbox.decode(sample(format)), decode(sample(format))
    assert far(mine.rgb, known.rgb) == 0 and mine.alpha is None
    assert mine.rgb.flags.writeable and mine.rgb.flags.c_contiguous


def test_turned_transparent_and_in_another_colour_space(sandbox: Sandbox) -> None:
    image = Image.fromarray(np.dstack([slope(), slope()[..., 0]]))
    data = saved(image, "PNG", icc_profile=display_p3(), exif=oriented(6))
    mine, known = sandbox.decode(data), decode(data)
    assert mine.alpha is not None and known.alpha is not None
    assert far(mine.rgb, known.rgb) == 0 and far(mine.alpha, known.alpha) == 0


def test_a_picture_does_not_change_with_the_next(sandbox: Sandbox) -> None:
    first = sandbox.decode(sample("PNG"))
    before = first.rgb.copy()
    sandbox.decode(saved(255 - slope(), "PNG"))
    assert far(first.rgb, before) == 0


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", BadPicture),
        (b"%PDF-1.7", UnsupportedFormat),
        (sample("PNG")[:-40], BadPicture),
        (png(np.zeros((16, 16), np.uint8), 0, size=(9000, 9000)), TooLarge),
        (png(np.zeros((16, 16), np.uint8), 0, size=(16, 16_384)), TooLarge),
        (bytes(33_000_000), TooLarge),
    ],
)
def test_errors_are_those_of_decoding_in_place(sandbox: Sandbox, data: bytes, kind: type[ImpastoError]) -> None:
    with pytest.raises(kind) as mine:
        sandbox.decode(data)
    with pytest.raises(kind) as known:
        decode(data)
    assert (mine.value.message, mine.value.extra) == (known.value.message, known.value.extra)


def test_a_child_that_takes_too_long_is_ended_and_the_next_picture_fares_well(hurried: Sandbox) -> None:
    hurried.warm()
    with pytest.raises(BadPicture, match=r"longer than 1 s|ended the decoder"):
        hurried.decode(slow_picture())
    assert hurried.decode(sample("JPEG")).height == 32


def test_a_child_that_takes_too_much_memory_is_ended_and_the_next_picture_fares_well(narrow: Sandbox) -> None:
    with pytest.raises(TooLarge, match="more memory"):
        narrow.decode(large_picture())
    assert narrow.decode(sample("JPEG")).height == 32


def test_an_avif_that_lies_about_its_size_meets_the_limit_on_memory() -> None:
    """64 x 64 by its boxes, 34 megapixels by what is in it."""
    data = saved(Image.new("RGB", (8192, 4096)), "AVIF", speed=10, quality=10)
    place = data.index(b"ispe") + 8
    seen: list[tuple[int, int]] = []
    narrow = Sandbox(Terms(memory=40_000_000))  # a fourth of what the frame takes with its colours in full
    lie = data[:place] + bytes([0, 0, 0, 64] * 2) + data[place + 8 :]
    with pytest.raises((BadPicture, TooLarge)), narrow.open(lie) as sent:
        seen.append((sent.height, sent.width))
        sent.pixels()
    assert seen == [(64, 64)]
    assert narrow.decode(sample("AVIF")).height == 32


def test_a_child_that_dies_at_work_is_a_bad_picture(sandbox: Sandbox) -> None:
    sandbox.warm()
    killing = threading.Thread(target=lambda: at_work().kill())
    killing.start()
    with pytest.raises(BadPicture, match="ended the decoder"):
        sandbox.decode(slow_picture())
    killing.join()
    assert sandbox.decode(sample("PNG")).height == 32


def test_a_child_that_died_at_rest_is_noticed_by_nobody(sandbox: Sandbox) -> None:
    sandbox.warm()
    for process in children():
        process.kill()
        process.wait()
    assert sandbox.decode(sample("PNG")).height == 32


def test_a_fork_server_that_died_is_started_again(sandbox: Sandbox) -> None:
    sandbox.decode(sample("PNG"))
    assert forkserver.server._process
    before, mine = forkserver.server._process.pid, children()
    os.kill(before, signal.SIGKILL)
    psutil.wait_procs(mine, timeout=60)
    assert not any(process.is_running() for process in mine)  # with the fork server
    assert sandbox.decode(sample("PNG")).height == 32
    assert forkserver.server._process.pid != before


def test_a_fork_server_that_died_at_work_is_no_fault_of_the_picture(sandbox: Sandbox) -> None:
    sandbox.warm()
    assert forkserver.server._process
    killing = threading.Thread(target=kill_at_work, args=(forkserver.server._process.pid,))
    killing.start()
    with pytest.raises(Unavailable, match="was ended") as told:
        sandbox.decode(slow_picture())
    killing.join()
    assert told.value.extra == {"retry_after": 1}
    assert sandbox.decode(sample("PNG")).height == 32


def kill_at_work(pid: int) -> None:
    """kill -9 as soon as a child has worked for a while."""
    at_work()
    os.kill(pid, signal.SIGKILL)


def test_a_child_that_dies_at_birth_takes_nobody_along(
    monkeypatch: pytest.MonkeyPatch, own_server: forkserver.ForkServer
) -> None:
    """The third child of this fork server is gone before its process can be opened."""
    code = (
        "import os, socket, sys, time\n"
        "from impasto.core.pictures import sandbox_child as decoder\n"
        "real, born = os.pidfd_open, []\n"
        "def pidfd_open(pid):\n"
        "    born.append(pid)\n"
        "    if len(born) == 3:\n"
        "        os.kill(pid, 9)\n"
        "        while os.path.exists(f'/proc/{pid}'): time.sleep(0.01)\n"
        "    return real(pid)\n"
        "os.pidfd_open = pidfd_open\n"
        "decoder.serve(socket.socket(fileno=int(sys.argv[1])))\n"
    )
    monkeypatch.setattr(forkserver, "DECODER", (sys.executable, "-c", code))
    sandbox, sizes = Sandbox(Terms(seconds=100)), list[int]()
    sandbox.warm()
    first = threading.Thread(target=lambda: sizes.append(sandbox.decode(slow_picture()).height))
    first.start()
    process = at_work()
    assert sandbox.decode(sample("PNG")).height == 32
    assert process.is_running()
    first.join()
    assert sizes == [4000]


def test_a_decoder_has_no_password(
    monkeypatch: pytest.MonkeyPatch, own_server: forkserver.ForkServer, sandbox: Sandbox
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET key")
    monkeypatch.setenv("IMPASTO_WEBHOOK_SECRET", "SECRET hook")
    monkeypatch.setenv("LC_TIME", "C")
    with sandbox.open(sample("PNG")):  # a child that is at work
        assert own_server._process and children()
        for pid in (own_server._process.pid, *(child.pid for child in children())):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"SECRET" not in environment and b"AWS" not in environment and b"WEBHOOK" not in environment
            assert b"MALLOC_ARENA_MAX=1\0" in environment and b"LC_TIME=C\0" in environment


def test_a_picture_that_is_refused_by_its_size_costs_no_pixels(sandbox: Sandbox) -> None:
    for _ in range(3):
        with pytest.raises(TooLarge, match="no room"), sandbox.open(slow_picture()) as sent:
            assert (sent.height, sent.width) == (4000, 6000)
            raise TooLarge("no room")
    assert sandbox.decode(sample("PNG")).height == 32


def test_a_child_ends_as_soon_as_the_pixels_are_there(sandbox: Sandbox) -> None:
    with sandbox.open(sample("PNG")) as sent:
        before = psutil.Process().num_fds()
        picture = sent.pixels()
        assert psutil.Process().num_fds() < before
    assert far(picture.rgb, slope()) == 0


def test_many_threads_and_no_descriptor_or_child_left_over(sandbox: Sandbox) -> None:
    def work() -> None:
        for number in range(30):
            if number % 3 == 2:
                with pytest.raises(BadPicture):
                    sandbox.decode(sample("JPEG")[:200])
            else:
                assert sandbox.decode(sample("JPEG")).height == 32

    sandbox.warm()
    before = psutil.Process().num_fds()
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert psutil.Process().num_fds() == before
    wait_for(lambda: len(children()) == 1)  # the one that was forked ahead


@pytest.mark.parametrize("working", [False, True])
def test_nobody_outlives_a_service_that_is_killed(working: bool) -> None:
    code = (
        "import impasto.core.pictures.sandbox as c, sys\n"
        "sandbox = c.Sandbox(c.Terms())\n"
        "sandbox.warm()\n"
        "print(c.forkserver.server._process.pid, flush=True)\n"
        "data = sys.stdin.buffer.read()\n"
        "sandbox.decode(data)\n"
    )
    service = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert service.stdin and service.stdout
    with service.stdin, service.stdout:
        server = psutil.Process(int(service.stdout.readline()))
        wait_for(server.children)
        if working:
            service.stdin.write(slow_picture())
            service.stdin.close()
            wait_for(lambda: any(child.cpu_times().user > 0.3 for child in server.children()))
        mine = [server, *server.children()]
        service.kill()
        service.wait()
    psutil.wait_procs(mine, timeout=60)
    assert not any(process.is_running() for process in mine)


def test_children_have_loaded_neither_torch_nor_the_engine() -> None:
    loaded = "{'torch', 'openvino', 'fastapi'} & set(sys.modules)"
    code = f"import sys, impasto.core.pictures.sandbox_child; assert not {loaded}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@contextmanager
def zipped(compression: int = zipfile.ZIP_DEFLATED, **files: bytes) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", compression) as archive:
            for name, data in files.items():
                archive.writestr(f"{name}.jpg", data)
        yield file


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_is_unpacked_as_in_place(sandbox: Sandbox, compression: int) -> None:
    large = bytes(sandbox.terms.limits.max_bytes + 10)
    with zipped(compression, a=b"1", café=b"2" * 1000, _hidden=b"3", large=large) as file:
        found = list(sandbox.unpack(file, "photographs.zip"))
        assert found == list(InPlace(Terms()).unpack(file, "photographs.zip"))
    assert [name for name, _ in found] == ["a.jpg", "café.jpg", "_hidden.jpg", "large.jpg"]
    assert found[1][1] == b"2" * 1000 and len(found[3][1]) == sandbox.terms.limits.max_bytes + 1


def test_bad_archives_are_told_as_in_place(sandbox: Sandbox) -> None:
    with zipped(zipfile.ZIP_LZMA, a=b"1") as file, pytest.raises(BadParameter, match="rare way"):
        list(sandbox.unpack(file, "photographs.zip"))
    with tempfile.TemporaryFile() as file, pytest.raises(BadPicture, match=r"mine\.zip: the archive cannot be read"):
        file.write(b"PK\x03\x04 and no more")
        list(sandbox.unpack(file, "mine.zip"))


def test_a_child_that_dies_at_an_archive_is_a_bad_picture(sandbox: Sandbox) -> None:
    with zipped(a=b"1", b=b"2") as file, pytest.raises(BadPicture, match="ended the decoder"):
        for _ in sandbox.unpack(file, "photographs.zip"):
            for process in children():
                process.kill()


def test_without_a_sandbox_pictures_are_opened_and_decoded_in_place() -> None:
    sandbox = open_sandbox(Terms(), on=False)
    assert isinstance(sandbox, InPlace)
    with sandbox.open(sample("PNG")) as sent:
        assert (sent.height, sent.width) == (32, 48)
        assert far(sent.pixels().rgb, slope()) == 0
    with pytest.raises(UnsupportedFormat):
        sandbox.decode(b"hello")
