"""Attacks over HTTP that once worked: each stands for its kind."""

import http.client
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime

import psutil
import pytest
from fastapi.testclient import TestClient
from moto.server import ThreadedMotoServer
from PIL import Image

from impasto.api.main import create_app
from impasto.api.services.streams import MOST
from impasto.core.jobs.open import open_store
from impasto.core.jobs.record import Job
from impasto.core.jobs.storage import open_storage
from impasto.core.jobs.transitions import Jobs
from tests.helpers.forms import multipart
from tests.helpers.pictures import saved
from tests.helpers.processes import Service, wait_for
from tests.helpers.servers import free_port
from tests.helpers.work import admin, with_our_styles

FRIEND = "https://friend.example"


@pytest.fixture
def service(settings, tmp_path) -> Iterator[Service]:
    """A service without keys, whose jobs wait for a broker that is away."""
    changes = {
        "broker": "redis://127.0.0.1:1",
        "cache": tmp_path / "cache",
        "origins": FRIEND,
        "forwarded": "127.0.0.1",
    }
    service = Service(settings.model_copy(update=changes), tmp_path / "log")
    yield service
    service.terminate()


def status(service: Service, path: str, method: str = "GET", **headers: str) -> int:
    """As nginx asks its upstream for a client: HTTP/1.1 from this machine, and nothing of where it came from."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://localhost:{service.port}{path}", method=method, headers=named)
    try:
        with urllib.request.urlopen(request) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_proxy_on_the_machine_makes_nobody_admin(service):
    for path, method in (("/jobs", "GET"), ("/metrics", "GET"), ("/styles/aonet/coco/plain", "DELETE")):
        for headers in ({}, {"Host": "127.0.0.1"}, {"Connection": "close"}, {"Host": "localhost"}):
            assert status(service, path, method, **headers) == 403, (path, headers)


def test_an_allowed_site_makes_no_admin_of_a_browser_on_the_machine(service):
    for headers in ({"Origin": FRIEND}, {"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"}):
        assert status(service, "/jobs", **headers) == 403
        assert status(service, "/styles/aonet/coco/plain", "DELETE", **headers) == 403


def test_the_command_line_of_the_services_user_is_the_admin(service, settings, tmp_path):
    """And the token is what makes it: without it the same command is refused."""
    for cache, code in ((tmp_path / "cache", 0), (tmp_path / "nothing", 2)):
        here = os.environ | {"IMPASTO_CACHE": str(cache), "IMPASTO_PORT": str(service.port)}
        command = [sys.executable, "-m", "impasto", "jobs", "list"]
        done = subprocess.run(command, env=here, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
    assert "for the admin" in done.stderr
    token = admin(settings.model_copy(update={"cache": tmp_path / "cache"}))
    assert status(service, "/metrics", **token) == 200
    said = [json.loads(line)["message"] for line in service.log.read_text().splitlines() if line.startswith("{")]
    assert any(f"the token in {tmp_path / 'cache' / 'admin-token'}" in line for line in said)
    assert token["Authorization"].split()[1] not in service.log.read_text()


@pytest.fixture
def bucketless() -> Iterator[str]:
    """The endpoint of an object store that has no bucket."""
    server = ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    server.start()
    yield f"http://127.0.0.1:{server._port}"
    server.stop()


@pytest.mark.parametrize("answers", [True, False], ids=["refusing", "away"])
def test_an_error_of_the_object_store_tells_nothing_of_it(settings, png, monkeypatch, bucketless, answers, caplog):
    """Its answers name the bucket, the endpoint and the id of the access key."""
    endpoint = bucketless if answers else f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHIDDEN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-too")
    settings = with_our_styles(settings).model_copy(update={"storage": "s3://hidden-bucket/prefix"})
    with TestClient(create_app(settings), "http://localhost") as client:
        answer = client.post("/jobs", data={"kind": "gatys", "style": "wave"}, files={"image": png})
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable"), answer.text
    for hidden in ("hidden", "AKIA", "127.0.0.1", endpoint.rpartition(":")[2]):
        assert hidden not in answer.text + str(answer.headers)
    assert "s3://hidden-bucket/prefix" in caplog.text  # whoever runs the service is told
    assert "hidden-too" not in caplog.text


@pytest.mark.parametrize("store", ["redis://:hidden@127.0.0.1:{port}/0", "{folder}/hidden/jobs.sqlite"])
def test_an_error_of_the_store_tells_nothing_of_it(settings, tmp_path, store, caplog):
    port = free_port()
    (tmp_path / "hidden").write_text("")  # a file, so that no folder can be made
    changes = {"store": store.format(port=port, folder=tmp_path)}
    with TestClient(create_app(settings.model_copy(update=changes)), "http://localhost") as client:
        answers = [client.get(f"/jobs/{'0' * 32}"), client.get("/readyz/jobs")]
    assert [answer.status_code for answer in answers] == [503, 503]
    for answer in answers:
        for hidden in ("hidden", "127.0.0.1", str(port), str(tmp_path)):
            assert hidden not in answer.text
    assert str(port) in caplog.text or "hidden/jobs.sqlite" in caplog.text
    assert ":hidden@" not in caplog.text


def test_one_client_does_not_have_all_streams_of_events(service, settings):
    """64 from one address were all there are."""
    store = open_store(settings.store)
    job = Jobs(store).submit(Job(kind="gatys", params={"style": "wave"}, created=datetime.now(UTC)))
    store.close()
    with ExitStack() as opened:

        def follow(address: str) -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection("127.0.0.1", service.port, source_address=(address, 0), timeout=30)
            opened.enter_context(closing(connection))
            connection.request("GET", f"/jobs/{job.id}/events", headers={"Host": "localhost"})
            return connection.getresponse()

        many = [follow("127.0.0.2") for _ in range(MOST)]
        assert [answer.status for answer in many] == [200] * (MOST // 4) + [503] * (MOST - MOST // 4)
        assert (many[-1].headers["Retry-After"], json.load(many[-1])["error"]) == ("10", "busy")
        many += [follow(f"127.0.0.{3 + number % 3}") for number in range(3 * MOST // 4)]  # now all are taken
        strangers = [follow(f"127.0.1.{number}") for number in range(1, 9)]
        assert [answer.status for answer in strangers] == [200] * 8
        assert follow("127.0.1.1").status == 503  # its second
        assert b"event: status" in strangers[0].readline()
        ended = many[0].read()  # to its end: it is the oldest of those who had most
        assert b"event: progress" in ended and b"event: done" not in ended
        for answer in many:
            answer.close()
    wait_for(lambda: status(service, f"/jobs/{job.id}/events") == 200, 20)


def test_bodies_that_never_end_leave_room_for_others(settings, tmp_path):
    """One client's bodies, sent but for their last byte, took all the bytes that there are for bodies under way."""
    photo = saved(Image.effect_noise((400, 400), 100).convert("RGB").rotate(1), "PNG", compress_level=0)
    assert 450_000 < len(photo) < 490_000
    changes = {"max_bytes": 500_000, "max_held": 4_000_000, "jobs": False}
    service = Service(settings.model_copy(update=changes), tmp_path / "log")
    try:
        with ExitStack() as opened:

            def send(address: str, picture: bytes, missing: int = 0) -> http.client.HTTPConnection:
                body, headers = multipart(("image", picture))
                connection = http.client.HTTPConnection("127.0.0.1", service.port, source_address=(address, 0))
                opened.enter_context(closing(connection))
                headers |= {"Host": "localhost", "Content-Length": str(len(body))}
                connection.request("POST", "/stylize?style=plain", body[: len(body) - missing], headers)
                return connection

            for _ in range(12):
                send("127.0.0.2", bytes(400_000), missing=1)
            assert [send("127.0.0.3", photo).getresponse().status for _ in range(5)] == [200] * 5
    finally:
        service.terminate()


@pytest.fixture
def client(settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.mark.parametrize("path", ["/jobs", "/stylize?style=plain"])
def test_a_urlencoded_form_is_not_parsed(client, path):
    """5.5 MB of `&` held the event loop for a second."""
    for kind in ("application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded ; charset=utf-8"):
        answer = client.post(path, content=b"&" * 5_500_000, headers={"Content-Type": kind})
        assert answer.status_code == 422, answer.text
        assert "multipart form: curl -F image=@" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/jobs", "/stylize?style=plain"])
@pytest.mark.parametrize(
    "padding", [b"\r\n--B" + b" " * 9_000_000, b"\r\n--Bx" * 2_000_000], ids=["blanks", "almost a boundary"]
)
def test_a_form_of_padding_is_given_up(client, path, padding):
    """The parser goes through it byte by byte."""
    part = b'--B\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    answer = client.post(path, content=part + padding, headers=headers)
    assert answer.status_code == 400, answer.text
    assert "s to parse" in answer.json()["detail"]


def test_results_are_not_in_memory_for_each_who_asks(service, settings):
    """47 megapixels of noise are 139 MB: 110 connections that asked for them had 8 GB."""
    key, size = "jobs/big/1/result.png", 50_000_000
    storage, store = open_storage(settings.storage), open_store(settings.store)
    storage.put(key, os.urandom(1000) * (size // 1000))
    now = datetime.now(UTC)
    done = {"status": "succeeded", "files": {"result": key}, "created": now, "finished": now}
    job = Job(kind="gatys", params={"style": "wave"}, **done)
    store.add(job)
    store.close()
    with ExitStack() as opened:

        def ask(method: str) -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
            opened.enter_context(closing(connection))
            connection.request(method, f"/jobs/{job.id}/result", headers={"Host": "localhost"})
            return connection.getresponse()

        wait_for(lambda: service.answers("/readyz"))  # with its models in memory
        before = psutil.Process(service.process.pid).memory_info().rss
        answers = [ask("GET") for _ in range(12)]
        heads = [ask("HEAD") for _ in range(4)]
        assert psutil.Process(service.process.pid).memory_info().rss < before + 2 * size
        for answer in answers + heads:
            assert (answer.status, answer.headers["Content-Length"]) == (200, str(size))
            assert answer.headers["Content-Disposition"].endswith('-result.png"')
        assert heads[0].read() == b""
        assert answers[0].read() == storage.get(key)


def test_behind_a_proxy_one_client_does_not_have_all_connections(settings, tmp_path):
    """Bodies that were begun took all of them, as a proxy may open as many as it likes."""
    service = Service(settings.model_copy(update={"forwarded": "127.0.0.1", "connections": 32}), tmp_path / "log")
    try:
        with ExitStack() as opened:

            def begin() -> http.client.HTTPConnection:
                connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
                opened.enter_context(closing(connection))
                headers = {"X-Forwarded-For": "203.0.113.7", "Content-Type": "image/png", "Content-Length": "1000"}
                connection.request("POST", "/stylize?style=plain", b"x", {"Host": "localhost", **headers})
                return connection

            begun = [begin() for _ in range(8)]
            wait_for(lambda: status(service, "/limits", X_Forwarded_For="203.0.113.7") == 503, 20)
            refused = [begin().getresponse() for _ in range(40)]
            assert {answer.status for answer in refused} == {503}
            assert json.load(refused[0])["retry_after"] == 10
            assert status(service, "/limits", X_Forwarded_For="203.0.113.99") == 200
            for connection in begun:
                connection.close()
            wait_for(lambda: status(service, "/limits", X_Forwarded_For="203.0.113.7") == 200, 20)
    finally:
        service.terminate()
