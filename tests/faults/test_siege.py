"""One attacker who does everything at once, and an honest client who paints a picture a second.

In a short form here; `make chaos` runs a minute of it and shows the figures.
"""

import asyncio
import io
import time
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from impasto.core.settings import ROOT
from tests.helpers.figures import percentile, report
from tests.helpers.forms import multipart
from tests.helpers.pictures import saved
from tests.helpers.processes import Service, in_folder, ready, wait_for

HONEST, ATTACKER = "127.0.0.1", "127.0.0.9"
Attack = Callable[[httpx2.AsyncClient], Awaitable[object]]


@pytest.fixture
def service(cache: Path, tmp_path: Path) -> Iterator[Service]:
    """As it starts for a newcomer, jobs and all, and with webhooks that may call this machine."""
    settings = in_folder(tmp_path, cache, webhook_secret="secret", webhook_private=True)
    with ready(settings, tmp_path / "log") as service:
        wait_for(lambda: (service.answers("/readyz/jobs") or {}).get("ready"))
        yield service


def cat(side: int) -> bytes:
    with Image.open(ROOT / "api/web/cat.jpg") as image:
        return saved(image.resize((side, side)), "JPEG")


def bzip2() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("a.jpg", bytes(10_000_000))
    return archive.getvalue()


LARGE, SMALL = cat(4800), cat(64)
STRIP = saved(Image.new("RGB", (320, 16)), "PNG")
ARCHIVE = bzip2()


async def punycode(client: httpx2.AsyncClient) -> None:
    body, headers = multipart(("note", "a" * 400_000 + "-" + "b" * 400))
    headers["Content-Type"] += "; charset=punycode"
    await client.post("/jobs", content=body, headers=headers)


async def swelling_archive(client: httpx2.AsyncClient) -> None:
    files = {"style_image": SMALL, "content_images": ("photographs.zip", ARCHIVE)}
    await client.post("/jobs", data={"kind": "train", "name": "mine"}, files=files)


async def dear_jobs(client: httpx2.AsyncClient) -> None:
    dear = {"kind": "train", "name": "mine", "size": "1024", "batch": "256", "steps": "1000000", "style_size": "2048"}
    await client.post("/jobs", data=dear, files={"style_image": SMALL, "content_images": ("a.jpg", LARGE)})
    dear = {"kind": "gatys", "size": "2048", "num_iterations": "10000", "style_scale": "3"}
    await client.post("/jobs", data=dear, files={"image": LARGE, "style_image": STRIP})


async def many_jobs(client: httpx2.AsyncClient) -> None:
    """Small ones, with a webhook that nobody answers, some canceled."""
    data = {"kind": "gatys", "style": "wave", "size": "64", "webhook": "http://127.0.0.1:9999/"}
    answer = await client.post("/jobs", data=data, files={"image": SMALL})
    if answer.status_code == 202 and int(answer.json()["id"][-1], 16) < 12:
        await client.post(f"/jobs/{answer.json()['id']}/cancel")


async def sheets(client: httpx2.AsyncClient) -> None:
    await client.post("/compare", files={"image": LARGE})


async def large_pictures(client: httpx2.AsyncClient) -> None:
    await client.post("/stylize?style=wave&paint_size=full", files={"image": LARGE})


async def streams(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/jobs", data={"kind": "gatys", "style": "wave"}, files={"image": SMALL})
    if answer.status_code == 202:
        async with client.stream("GET", f"/jobs/{answer.json()['id']}/events") as events:
            await events.aread()
    else:
        await asyncio.sleep(1)


async def others_things(client: httpx2.AsyncClient) -> None:
    for method, path in (("DELETE", "/styles/aonet/coco/wave"), ("GET", "/jobs"), ("GET", "/metrics")):
        assert (await client.request(method, path)).status_code in (401, 403, 429, 503)
    await client.post("/stylize?style=wave&picture=guessed")


async def broken_pictures(client: httpx2.AsyncClient) -> None:
    await client.post("/stylize?style=wave", files={"image": LARGE[: len(LARGE) // 2]})


async def slow_connection(client: httpx2.AsyncClient) -> None:
    """A byte of a header a second."""
    host, port = client.base_url.host, client.base_url.port
    reader, writer = await asyncio.open_connection(host, port, local_addr=(ATTACKER, 0))
    try:
        for byte in b"POST /stylize?style=wave HTTP/1.1\r\nHost: localhost":
            writer.write(bytes([byte]))
            await asyncio.sleep(1)
            if reader.at_eof():
                break
    finally:
        writer.close()


AT_ONCE: dict[Attack, int] = {
    punycode: 2,
    swelling_archive: 1,
    dear_jobs: 1,
    many_jobs: 4,
    sheets: 3,
    large_pictures: 8,
    streams: 70,
    others_things: 1,
    broken_pictures: 1,
    slow_connection: 60,
}


@asynccontextmanager
async def siege(base: str) -> AsyncIterator[None]:
    """All attacks at once, each again and again."""

    async def again(attack: Attack) -> None:
        transport = httpx2.AsyncHTTPTransport(local_address=ATTACKER)
        async with httpx2.AsyncClient(base_url=base, timeout=60, transport=transport) as client:
            while True:
                try:
                    await attack(client)
                except (httpx2.HTTPError, OSError):  # it was turned away
                    await asyncio.sleep(0.2)

    attackers = [asyncio.create_task(again(attack)) for attack, count in AT_ONCE.items() for _ in range(count)]
    await asyncio.sleep(3)
    yield
    broken = [task for task in attackers if task.done()]
    for task in attackers:
        task.cancel()
    ended = await asyncio.gather(*attackers, return_exceptions=True)
    assert not broken, [end for end in ended if not isinstance(end, asyncio.CancelledError)]


async def honest(base: str, photo: bytes, seconds: int) -> tuple[Counter[int], list[float]]:
    """A painting a second."""
    statuses, waits = Counter[int](), list[float]()

    async def paint(client: httpx2.AsyncClient) -> None:
        sent = time.monotonic()
        answer = await client.post("/stylize?style=wave&format=jpeg", files={"image": photo})
        statuses[answer.status_code] += 1
        waits.append(time.monotonic() - sent)

    transport = httpx2.AsyncHTTPTransport(local_address=HONEST)
    async with httpx2.AsyncClient(base_url=base, timeout=60, transport=transport) as client, asyncio.TaskGroup() as all:
        for _ in range(seconds):
            all.create_task(paint(client))
            await asyncio.sleep(1)
    return statuses, waits


@pytest.mark.slow
def test_an_attacker_with_the_source_beside_an_honest_client(service: Service, full: bool) -> None:
    """Each request of the honest client is answered with a painting, and its job is taken on."""
    photo, base = cat(256), f"http://127.0.0.1:{service.port}"

    async def run() -> None:
        _, alone = await honest(base, photo, 20 if full else 3)
        async with siege(base):
            statuses, waits = await honest(base, photo, 60 if full else 12)
            async with httpx2.AsyncClient(base_url=base, timeout=60) as client:
                job = await client.post("/jobs", data={"kind": "gatys", "style": "wave"}, files={"image": photo})
        report(
            "under siege",
            f"{dict(statuses)}; p50 {1000 * percentile(waits, 0.5):.0f} ms, p95 {1000 * percentile(waits, 0.95):.0f} "
            f"ms; alone {1000 * percentile(alone, 0.5):.0f} and {1000 * percentile(alone, 0.95):.0f} ms",
        )
        assert set(statuses) == {200}
        assert job.status_code == 202, job.text

    asyncio.run(run())
    assert (ROOT / "models/aonet/coco/wave.safetensors").exists()
