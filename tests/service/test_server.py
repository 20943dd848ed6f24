"""The server's own limits, on real connections: what is slow, too large or too many is dropped, others are served."""

import io
import json
import select
import socket
import struct
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest
from PIL import Image

from impasto.core.settings import Settings
from tests.helpers.forms import multipart
from tests.helpers.pictures import saved
from tests.helpers.processes import Service, wait_for
from tests.helpers.work import admin, with_our_styles

POST = b"POST /stylize?style=plain HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
LARGE = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n"
"""Answered with a megabyte and a half."""
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="p.png"\r\n\r\n'
SLOW = {
    "nothing": (b"", b""),
    "header": (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", b"X"),
    "before a header": (b"", b"\r\n"),
    "body": (POST + b"Content-Length: 10000\r\n\r\n" + PART, b""),
    "chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(PART), PART), b""),
}
"""Bytes that are sent at once, and bytes that are sent again and again, by what is slow about them."""


@pytest.fixture(scope="module")
def service(models: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("server")
    settings = Settings(
        models=models,
        styles=folder,
        cache=cache,
        device="cpu",
        jobs=False,
        patience=2,
        connections=250,
        forwarded="127.0.0.1",  # a proxy: may have all the connections
        rate=0,
    )
    service = Service(settings, folder / "log")
    yield service
    service.terminate()


@pytest.fixture
def opened(service: Service) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connect(service: Service, stack: ExitStack, first: bytes = b"", address: str = "127.0.0.1") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=30, source_address=(address, 0))
    stack.enter_context(closing(connection))
    connection.sendall(first)
    return connection


def reader(service: Service, stack: ExitStack, room: int, segment: int = 1448) -> socket.socket:
    """A connection whose kernel takes little ahead of us, in small segments, so that the other's holds little, too."""
    connection = stack.enter_context(closing(socket.socket()))
    connection.settimeout(30)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
    connection.connect(("127.0.0.1", service.port))
    return connection


def answer(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    said = b""
    try:
        while data := connection.recv(65536):
            said += data
    except ConnectionResetError:
        pass
    return said


@pytest.mark.parametrize("slow", SLOW)
def test_a_hundred_slow_connections_are_closed_and_the_service_answers_meanwhile(service, opened, slow):
    first, then = SLOW[slow]
    waiting = {connect(service, opened, first) for _ in range(100)}
    said: dict[bytes, int] = {}
    rounds = 0
    while waiting:
        for connection in list(waiting):
            if select.select([connection], [], [], 0)[0]:
                status = answer(connection)[:12]
                said[status] = said.get(status, 0) + 1
                waiting.remove(connection)
            elif then:
                try:
                    connection.sendall(then)
                except OSError:
                    continue  # closed at this moment: the next round hears it
        assert service.answers("/livez") == {"live": True}
        rounds += 1
        assert rounds < 600, f"{len(waiting)} connections are open after a minute"
        time.sleep(0.1)
    assert sum(said.values()) == 100
    share = {b"HTTP/1.1 503"} if slow in ("body", "chunks") else set()  # requests of one client behind the proxy
    assert set(said) <= {b"HTTP/1.1 408", b"", *share}
    assert b"HTTP/1.1 408" in said or slow == "nothing"


def test_a_body_may_take_long_while_it_makes_progress(service, opened):
    """Ten times the patience: lines are slow, and one that is slow on purpose holds one of its sender's connections."""
    connection = connect(service, opened, POST + b"Content-Length: %d\r\n\r\n" % (len(PART) + 40) + PART)
    for _ in range(40):
        time.sleep(0.5)
        connection.sendall(b"x")
    assert connection.recv(65536).startswith(b"HTTP/1.1 422")  # all of it was read: it has no end


def test_a_reader_who_does_not_read_is_dropped(service, opened):
    """Asks for a megabyte, twenty times, and reads none of it."""
    process = psutil.Process(service.process.pid)
    before = process.num_fds()
    reader(service, opened, 4096).sendall((LARGE + b"\r\n") * 20)
    wait_for(lambda: process.num_fds() > before, 10)
    wait_for(lambda: process.num_fds() <= before, 30)


def test_readers_who_leave_a_little_are_dropped(service, opened):
    """Of answers from 50 to 180 KB the kernel takes the first 70 or so: of some, a little waits in the service."""
    process = psutil.Process(service.process.pid)
    before = process.num_fds()
    for number in range(12, 40):
        reader(service, opened, 4096, 536).sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * number)
    wait_for(lambda: process.num_fds() > before + 20, 10)
    wait_for(lambda: process.num_fds() <= before, 40)


def test_a_reader_who_is_slow_gets_all(service, opened):
    """More than the promised minimum, and less than the kernel frees at a time."""
    size = len(answer(connect(service, opened, LARGE + b"Connection: close\r\n\r\n")))
    connection = reader(service, opened, 16_384)
    connection.sendall((LARGE + b"\r\n") * 4 + LARGE + b"Connection: close\r\n\r\n")
    read = 0
    for _ in range(150):
        read += len(connection.recv(6000))
        time.sleep(0.1)
    assert read + len(answer(connection)) >= 5 * size - 4 * len(b"connection: close\r\n")


def test_who_leaves_before_several_answers_is_no_error(service, opened):
    process = psutil.Process(service.process.pid)
    before = process.num_fds()
    for _ in range(5):
        connection = reader(service, opened, 4096)
        connection.sendall((LARGE + b"\r\n") * 4)
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, as a crash is
        connection.close()
    wait_for(lambda: process.num_fds() <= before, 10)
    assert service.answers("/livez") == {"live": True}
    assert "Traceback" not in service.log.read_text()


@pytest.mark.parametrize("pieces", [1, 40])
def test_a_header_has_an_end(service, opened, pieces):
    large = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"
    connection = connect(service, opened)
    size = len(large) // pieces
    try:
        for start in range(0, len(large), size):
            connection.sendall(large[start : start + size])
    except OSError:
        pass  # it has heard enough
    said = answer(connection)
    assert said.startswith(b"HTTP/1.1 431") or (pieces > 1 and said == b"")
    if said:
        assert json.loads(said.split(b"\r\n\r\n", 1)[1])["error"] == "header_too_large"


@pytest.mark.parametrize(
    "garbage", [b"1;" + b"x" * 300_000, b"0\r\n" + b"A: b\r\n" * 60_000], ids=["extension", "trailers"]
)
def test_a_body_in_which_nothing_comes_has_an_end(service, opened, garbage):
    connection = connect(service, opened, POST + b"Transfer-Encoding: chunked\r\n\r\n")
    try:
        for start in range(0, len(garbage), 1000):
            connection.sendall(garbage[start : start + 1000])
    except OSError:
        pass
    assert answer(connection)[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 400", b"")


def test_connections_have_an_end_and_come_back(service, opened):
    many = [connect(service, opened, b"GET /livez HTTP/1.1\r\n") for _ in range(250)]
    one_more = answer(connect(service, opened))
    assert one_more.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 1\r\n" in one_more
    for connection in many:
        connection.close()
    wait_for(lambda: service.answers("/livez"), 20)


def test_one_client_has_a_quarter_of_the_connections(service, opened):
    many = [connect(service, opened, b"GET /livez HTTP/1.1\r\n", "127.0.0.2") for _ in range(62)]
    one_more = answer(connect(service, opened, address="127.0.0.2"))
    assert one_more.startswith(b"HTTP/1.1 503")
    assert b"62 connections from you" in one_more
    get = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert answer(connect(service, opened, get, "127.0.0.3")).startswith(b"HTTP/1.1 200")
    many.pop().close()
    wait_for(lambda: answer(connect(service, opened, get, "127.0.0.2")).startswith(b"HTTP/1.1 200"), 20)


def test_one_connection_serves_many_requests_and_an_upgrade_is_none(service, opened):
    get = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n"
    head = b"HEAD" + get[3:]
    connection = connect(service, opened, (get + b"\r\n" + head + b"\r\n") * 2 + get + b"Connection: close\r\n\r\n")
    said = answer(connection)
    assert (said.count(b"HTTP/1.1 200"), said.count(b"content-length: 13"), said.count(b'{"live":true}')) == (5, 5, 3)
    assert connect(service, opened, get + upgrade + b"\r\n").recv(4096).startswith(b"HTTP/1.1 200")


def test_what_is_not_http_is_told_so_in_our_form_logged_and_counted(service, cache, opened):
    for text in ("GET /styles?x=ä HTTP/1.1\r\n\r\n".encode(), b"\x16\x03\x01\x02\x00\x01\r\n\r\n"):
        head, body = answer(connect(service, opened, text)).split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"X-Request-ID: " in head
        assert json.loads(body)["error"] == "bad_request"
    log = service.log.read_text()
    assert log.count('"message": "refused", "request"') >= 2
    assert "Invalid HTTP" not in log
    token = admin(Settings(cache=cache))["Authorization"]
    ask = f"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: {token}\r\n\r\n".encode()
    assert b'impasto_requests_total{method="other",route="none",status="400"} ' in answer(connect(service, opened, ask))


def test_answers_that_nobody_reads_are_bounded_together(models, cache, tmp_path, opened):
    """Four from one address leave 12 MB of PNG each, where a client has memory for one: long before patience ends."""
    noise = Image.effect_noise((2000, 2000), 100).resize((4000, 3000))
    body, headers = multipart(("image", saved(noise, "JPEG", quality=30)))
    head = f"POST /stylize?style=plain&strength=0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    settings = Settings(models=models, styles=tmp_path, cache=cache, device="cpu", jobs=False, max_held=36_000_000)
    service = Service(settings.model_copy(update={"patience": 60}), tmp_path / "log")
    opened.callback(service.terminate)
    wait_for(lambda: (service.answers("/readyz") or {}).get("ready"))
    stuck = [reader(service, opened, 4096) for _ in range(4)]
    for connection in stuck:
        connection.sendall(f"{head}Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
        assert connection.recv(1) == b"H"  # its answer is on the way
    ours = psutil.Process(service.process.pid)
    wait_for(lambda: sum(c.status == "ESTABLISHED" for c in ours.net_connections("tcp")) <= 1, 30)
    assert service.answers("/livez") == {"live": True}


def test_submissions_that_a_stop_does_not_wait_for_are_taken_back(settings, tmp_path, opened, monkeypatch):
    """Two hundred photographs of 6 MP, in the middle of whose decoding, and of another's upload, it is told to stop."""
    temporary, stored = tmp_path / "tmp", tmp_path / "stored"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    settings = with_our_styles(settings).model_copy(update={"grace": 1, "storage": str(stored)})
    service = Service(settings, tmp_path / "log")
    archive, photograph = io.BytesIO(), saved(Image.linear_gradient("L").resize((3000, 2000)), "JPEG")
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(200):
            file.writestr(f"{number}.jpg", photograph)
    fields = [("kind", "train"), ("name", "mine"), ("style_image", photograph), ("content_images", archive.getvalue())]
    body, headers = multipart(*fields)
    head = f"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    connection, uploading = (
        connect(service, opened, f"{head}Content-Type: {headers['Content-Type']}\r\n\r\n".encode()) for _ in range(2)
    )
    uploading.sendall(body[:-1])
    with ThreadPoolExecutor(1) as threads:
        heard = threads.submit(lambda: (connection.sendall(body), answer(connection))[1])
        wait_for(lambda: list(stored.rglob("*.png")))
        service.terminate()
        for told in (heard.result(), answer(uploading)):
            assert b" 503 " in told and b'"unavailable"' in told and b"Retry-After" in told.title()
    assert service.process.returncode == 0
    assert [path for folder in (stored, temporary) for path in folder.rglob("*") if path.is_file()] == []
    assert "Traceback" not in (tmp_path / "log").read_text()
