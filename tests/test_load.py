"""Hard days, measured: `make chaos`. Many clients at once, many requests in a row, slow connections beside them."""

import asyncio
import io
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from PIL import Image

from core.settings import ROOT, Settings
from tests.processes import Service, wait_for

pytestmark = pytest.mark.slow
MANY = int(os.environ.get("MANY", 10_000))
"""Requests in a row."""
PATHS = ("/stylize?style=wave&max_side=64&paint_size=64", "/stylize?style=nope", "/styles", "/limits")


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if not request.config.getoption("--full"):
        pytest.skip("takes minutes: make chaos")
    folder = tmp_path_factory.mktemp("load")
    settings = Settings(styles=folder, cache=cache, device="cpu", jobs=False, rate=0)
    service = Service(settings, folder / "log")
    wait_for(lambda: (service.answers("/readyz") or {}).get("ready"))
    yield service
    service.terminate()


@pytest.fixture(scope="module")
def photo() -> bytes:
    buffer = io.BytesIO()
    with Image.open(ROOT / "api/web/cat.jpg") as cat:
        cat.resize((256, 256)).save(buffer, "jpeg")
    return buffer.getvalue()


def process(service: Service) -> tuple[float, int, int]:
    """RSS in MB, open file descriptors, files in the folder for temporary ones that are this service's."""
    found = psutil.Process(service.process.pid)
    temporary = [file for file in found.open_files() if file.path.startswith("/tmp/tmp")]
    return found.memory_info().rss / 1e6, found.num_fds(), len(temporary)


def percentile(seconds: list[float], part: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(part * len(seconds)))]


async def paint(client: httpx2.AsyncClient, photo: bytes) -> httpx2.Response:
    return await client.post("/stylize?style=wave&format=jpeg", files={"image": photo})


def test_thirty_two_clients_for_a_minute(service, photo):
    served: list[float] = []
    statuses: Counter[int] = Counter()
    rss: list[float] = []

    async def client(end: float) -> None:
        async with httpx2.AsyncClient(base_url=f"http://localhost:{service.port}", timeout=60) as session:
            while time.monotonic() < end:
                begun = time.monotonic()
                answer = await paint(session, photo)
                statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    served.append(time.monotonic() - begun)
                else:
                    await asyncio.sleep(min(1, int(answer.headers["retry-after"])))

    async def load(seconds: float) -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(*(client(end) for _ in range(32)))

    asyncio.run(load(15))
    for record in (served, statuses):
        record.clear()
    rss.append(process(service)[0])
    begun = time.monotonic()
    asyncio.run(load(60))
    elapsed = time.monotonic() - begun  # the last that were taken on are answered, too
    rss.append(process(service)[0])
    bound = (2 + 16) * elapsed / len(served)  # who is let in has a place in the queue, which moves so fast
    drift = rss[1] / rss[0] - 1
    print(f"\n32 clients, 60 s: {dict(statuses)}, {len(served) / elapsed:.1f} a second, ", end="")
    print(
        f"p50 {percentile(served, 0.5):.2f} s, p99 {percentile(served, 0.99):.2f} s, the queue's bound {bound:.2f} s, "
    )
    print(f"RSS {rss[0]:.0f} -> {rss[1]:.0f} MB, {drift:+.1%}")
    assert set(statuses) <= {200, 503}
    assert percentile(served, 0.99) < 1.3 * bound
    assert abs(drift) < 0.05


def test_many_requests_in_a_row(service, photo):
    with httpx2.Client(base_url=f"http://localhost:{service.port}", timeout=60) as session:
        for _ in range(50):
            session.post("/stylize?style=wave", files={"image": photo})
        before = process(service)
        for number in range(MANY):
            path = PATHS[number % 4]
            answer = session.post(path, files={"image": photo}) if "stylize" in path else session.get(path)
            assert answer.status_code in (200, 404)
    after = wait_for(lambda: found if (found := process(service))[1] <= before[1] else None)
    print(f"\n{MANY} requests: RSS {before[0]:.0f} -> {after[0]:.0f} MB, ", end="")
    print(f"descriptors {before[1]} -> {after[1]}, temporary files {before[2]} -> {after[2]}")
    assert after[0] < 1.05 * before[0]
    assert after[2] == before[2] == 0


def test_two_hundred_slow_connections(service):
    """100 slow headers and 100 slow bodies; /livez is asked all the while."""
    head = b"POST /stylize?style=wave HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    part = b'Content-Length: 100000\r\n\r\n--x\r\nContent-Disposition: form-data; name="image"; filename="p"\r\n\r\n'
    begun = time.monotonic()
    open_ = set()
    for number in range(200):
        connection = socket.create_connection(("127.0.0.1", service.port))
        connection.setblocking(False)
        connection.sendall(head + (part if number % 2 else b""))
        open_.add(connection)
    closed, asked = [], []
    with httpx2.Client(base_url=f"http://localhost:{service.port}") as session:
        while open_ and time.monotonic() - begun < 60:
            for connection in list(open_):
                try:
                    connection.sendall(b"x")
                    ended = not connection.recv(4096)
                except BlockingIOError:
                    ended = False
                except OSError:
                    ended = True
                if ended:
                    closed.append(time.monotonic() - begun)
                    open_.discard(connection)
                    connection.close()
            for _ in range(10):
                then = time.monotonic()
                assert session.get("/livez").status_code == 200
                asked.append(time.monotonic() - then)
    print(f"\n200 slow connections: closed after {min(closed):.1f} to {max(closed):.1f} s; ", end="")
    print(f"/livez p50 {1000 * percentile(asked, 0.5):.0f} ms, p99 {1000 * percentile(asked, 0.99):.0f} ms")
    assert len(closed) == 200
    assert max(closed) < 15
