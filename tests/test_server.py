"""The server's own limits, on real connections: what is slow, too large or too many is dropped, others are served."""

import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from core.settings import Settings
from tests.processes import Service, wait_for

POST = b"POST /stylize?style=plain HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="p.png"\r\n\r\n'
SLOW = {
    "nothing": (b"", b""),
    "header": (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", b"X"),
    "before a header": (b"", b"\r\n"),
    "body": (POST + b"Content-Length: 10000\r\n\r\n" + PART, b"x"),
    "chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(PART), PART), b"1\r\nx\r\n"),
}
"""What is sent at once, and then again and again, by what is slow about it."""


@pytest.fixture(scope="module")
def service(models: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("server")
    settings = Settings(
        models=models, styles=folder, cache=cache, device="cpu", jobs=False, patience=2, connections=250
    )
    service = Service(settings, folder / "log")
    yield service
    service.terminate()


@pytest.fixture
def opened(service: Service) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connect(service: Service, stack: ExitStack, first: bytes = b"") -> socket.socket:
    connection = stack.enter_context(closing(socket.create_connection(("127.0.0.1", service.port), timeout=30)))
    connection.sendall(first)
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
    assert set(said) <= {b"HTTP/1.1 408", b""}
    assert b"HTTP/1.1 408" in said or slow == "nothing"


def test_a_body_that_comes_steadily_is_taken_however_long_it_takes(service, opened):
    connection = connect(service, opened, POST + b"Content-Length: 60000\r\n\r\n")
    for _ in range(12):
        connection.sendall(b"x" * 5000)
        time.sleep(0.5)
    assert connection.recv(65536).startswith(b"HTTP/1.1 400")  # all of it was read: it is no form


def test_a_reader_who_does_not_read_is_dropped(service, opened):
    """Asks for a megabyte, twenty times, and reads none of it."""
    process = psutil.Process(service.process.pid)
    before = process.num_fds()
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.connect(("127.0.0.1", service.port))
    connection = opened.enter_context(closing(small))
    connection.sendall(b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
    wait_for(lambda: process.num_fds() > before, 10)
    wait_for(lambda: process.num_fds() <= before, 30)


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


def test_one_connection_serves_many_requests_and_an_upgrade_is_none(service, opened):
    get = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n"
    connection = connect(service, opened, (get + b"\r\n") * 3 + get + b"Connection: close\r\n\r\n")
    assert answer(connection).count(b"HTTP/1.1 200") == 4
    assert connect(service, opened, get + upgrade + b"\r\n").recv(4096).startswith(b"HTTP/1.1 200")
