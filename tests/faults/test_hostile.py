"""Hostile requests to a service as it really runs: none crashes it, stalls it, leaks from it or fills it.

In a short form here; `make chaos` runs it at full length and shows the figures.
"""

import http.client
import io
import json
import secrets
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from impasto.core.pictures.sandbox import SECONDS
from tests.helpers.corpus import Bad, corpus
from tests.helpers.figures import report
from tests.helpers.forms import multipart
from tests.helpers.fuzz import mutations
from tests.helpers.pictures import planted, sample, saved
from tests.helpers.processes import Service, in_folder, ready, wait_for

WRONG = {400, 413, 415}
"""Statuses of a picture that is refused."""
SLACK = 5
"""Seconds, over those that a picture may take to decode, for all else on a busy machine."""
ASIDE = "strength=0&format=jpeg"
"""Parameters with which a picture is decoded and encoded, and no network works."""


@pytest.fixture(scope="module")
def service(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("hostile")
    settings = in_folder(folder, cache, rate=0)  # thousands of requests from one address
    with ready(settings, folder / "log") as service:
        yield service


class Client:
    """A connection for each request: the service closes those that are idle for a while."""

    def __init__(self, service: Service) -> None:
        self.port = service.port

    def post(self, path: str, *fields: tuple[str, str | bytes]) -> tuple[int, bytes]:
        """Status and body. A field of bytes is a file."""
        return self.request("POST", path, *multipart(*fields))

    def request(self, method: str, path: str, body: bytes = b"", headers: Any = None) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection("localhost", self.port, timeout=60)) as connection:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()

    def stylize(self, data: bytes, query: str = ASIDE) -> tuple[int, bytes]:
        return self.post(f"/stylize?style=wave&{query}", ("image", data))


def decoders(service: Service) -> list[psutil.Process]:
    """The service itself, and the processes that decode for it."""
    own = psutil.Process(service.process.pid)
    servers = [process for process in own.children() if "impasto.core.pictures.sandbox_child" in process.cmdline()]
    return [own, *servers, *(child for server in servers for child in server.children())]


def memory(service: Service) -> int:
    return sum(process.memory_info().rss for process in decoders(service))


def test_bad_pictures_are_told_so_and_leave_nothing_behind(service: Service) -> None:
    client = Client(service)
    for data in (sample("JPEG"), saved(Image.new("RGB", (4000, 3000)), "JPEG")):
        assert client.stylize(data)[0] == 200
    before, took, slow, statuses = memory(service), dict[str, float](), dict[str, str](), Counter[int]()
    pictures = list(corpus())
    assert len(pictures) >= 150
    for bad in pictures:
        begun = time.monotonic()
        status, body = client.stylize(bad.data)
        took[bad.name] = time.monotonic() - begun
        if took[bad.name] > 1:
            slow[bad.name] = f"{took[bad.name]:.1f} s, {status}" + (", ended" if b"ended" in body[:500] else "")
        statuses[status] += 1
        check(bad, status, body)
    assert max(took.values()) < SECONDS + SLACK, max(took, key=lambda name: took[name])
    assert service.answers("/livez") == {"live": True}
    time.sleep(1)
    grown = memory(service) - before
    report("hostile", f"{len(pictures)} bad pictures: {dict(statuses)}; over 1 s: {slow}; memory {grown / 1e6:+.0f} MB")
    assert grown < 300e6


def check(bad: Bad, status: int, body: bytes) -> None:
    """The answer that it deserves, in our form."""
    expected = {"refused": WRONG, "painted": {200}, "either": WRONG | {200}}[bad.answer]
    assert status in expected, (bad.name, status, body[:300])
    if status == 200:
        assert body.startswith(b"\xff\xd8"), bad.name
    else:
        problem = json.loads(body)
        assert problem["error"] and problem["detail"], bad.name


def test_bad_pictures_as_styles_and_in_archives(service: Service) -> None:
    """The other doors: a comparison, a job's photograph, style and training photographs."""
    client = Client(service)
    for bad in list(corpus())[::40]:
        allowed = WRONG | ({200, 202} if bad.answer != "refused" else set())
        zipped = io.BytesIO()
        with zipfile.ZipFile(zipped, "w") as archive:
            archive.writestr("a.jpg", bad.data)
        train = (("kind", "train"), ("name", secrets.token_hex(8)))
        for path, fields in (
            ("/compare?style=wave&arch=aonet&strength=0&side=64", (("image", bad.data),)),
            ("/jobs", (("kind", "gatys"), ("style", "wave"), ("num_iterations", "1"), ("image", bad.data))),
            (
                "/jobs",
                (("kind", "gatys"), ("num_iterations", "1"), ("image", sample("PNG")), ("style_image", bad.data)),
            ),
            ("/jobs", (*train, ("style", "wave"), ("steps", "1"), ("content_images", zipped.getvalue()))),
        ):
            status, body = client.post(path, *fields)
            assert status in allowed, (bad.name, path, fields[0], status, body[:300])
            if status == 202:
                assert client.request("DELETE", json.loads(body)["links"]["self"])[0] == 204


def test_mutations_of_good_files(service: Service, full: bool) -> None:
    count = 50_000 if full else 2_000
    statuses, failures = Counter[int](), []
    pictures, lock = mutations(7, count), threading.Lock()

    def send() -> None:
        client = Client(service)
        while True:
            with lock:
                data = next(pictures, None)
            if data is None:
                return
            try:
                status, body = client.stylize(data)
            except (OSError, http.client.HTTPException) as error:
                failures.append((data, error))
                return
            statuses[status] += 1
            if status not in WRONG | {200}:
                failures.append((data, body[:300]))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report("hostile", f"{count} mutations: {dict(statuses)}")
    assert not failures
    assert sum(statuses.values()) == count
    assert statuses[200] > count / 50 and statuses[400] > count / 10  # neither all good nor all bad
    assert service.answers("/livez") == {"live": True}


def test_nothing_that_was_planted_in_a_file_comes_out_anywhere(service: Service) -> None:
    """A place, a comment, XMP and a colour profile, each marked SECRET: in no answer, stored file, record or log."""
    client, bodies = Client(service), []
    files = [planted(format) for format in ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF")]
    for data in files:
        assert data.count(b"SECRET") >= 2
        for format in ("png", "jpeg", "webp"):
            status, body = client.stylize(data, f"max_side=32&format={format}")
            assert status == 200
            bodies.append(body)
        for broken in (data[: len(data) * 2 // 3], b"GIF89a" + data, data.replace(b"\xff\xda", b"\xff\xc8")):
            bodies.append(client.stylize(broken)[1])
        bodies.append(client.post("/compare?style=wave&arch=aonet&side=64", ("image", data))[1])
    jobs: list[dict[str, Any]] = []
    for data in files[:2]:
        fields = (("kind", "gatys"), ("num_iterations", "1"), ("size", "32"), ("image", data), ("style_image", data))
        status, body = client.post("/jobs", *fields)
        assert status == 202, body
        jobs.append(json.loads(body))
    for job in jobs:
        wait_for(lambda job=job: service.answers(job["links"]["self"])["status"] == "succeeded")
    train = (("kind", "train"), ("name", "planted"), ("style_image", files[0]), ("content_images", files[1]))
    status, body = client.post("/jobs", *train, ("steps", "1"), ("content_images", files[2]))
    assert status == 202, body
    client.post(json.loads(body)["links"]["cancel"])
    bodies.append(body)
    folder = service.log.parent
    stored = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert sum(data.startswith(b"\x89PNG") for data in stored) >= 5  # inputs and results
    for data in (*bodies, *stored):
        assert b"SECRET" not in data
        for part in _pictures(data):
            for mark in (
                b"SECRET",
                b"Exif",
                b"ICC_PROFILE",
                b"iCCP",
                b"ns.adobe.com",
                b"zTXt",
                b"iTXt",
                b"eXIf",
            ):
                assert mark not in part


def _pictures(data: bytes) -> list[bytes]:
    """The pictures in a stored file: itself, or those in an archive."""
    if data.startswith(b"PK\3\4"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [archive.read(name) for name in archive.namelist()]
    return [data] if data.startswith((b"\x89PNG", b"\xff\xd8\xff", b"RIFF")) else []
