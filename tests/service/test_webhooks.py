"""Webhooks: what may be called, how a call is signed, and that it is made until it is taken."""

import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from impasto.core.errors import BadParameter
from impasto.core.jobs.open import open_store
from impasto.core.jobs.record import Job
from impasto.core.jobs.transitions import Jobs
from impasto.core.jobs.webhooks import check_url, sign
from impasto.worker.jobs import webhooks
from impasto.worker.jobs.webhooks import call_webhooks


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent; answers with `statuses`, then 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}/hook?token=1"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def jobs(tmp_path) -> Iterator[Jobs]:
    jobs = Jobs(open_store(str(tmp_path / "jobs.sqlite")))
    yield jobs
    jobs.store.close()


def call(jobs: Jobs, settings) -> None:
    """One round of calls, to its end."""
    call_webhooks(jobs, settings)
    time.sleep(0.05)
    with webhooks._under_way:
        pass


def over(jobs: Jobs, url: str) -> Job:
    return jobs.cancel(jobs.submit(Job(kind="gatys", params={}, webhook=url)).id)


def test_a_call_is_signed_and_made_once(receiver, jobs, settings):
    settings = settings.model_copy(update={"webhook_secret": "s3cret", "webhook_private": True})
    job = over(jobs, receiver.url)
    call(jobs, settings)
    call(jobs, settings)
    ((path, headers, body),) = receiver.calls
    assert path == "/hook?token=1"
    assert headers["webhook-id"] == job.id
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    signed = f"{job.id}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(b"s3cret", signed, sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"
    sent = json.loads(body)
    assert (sent["type"], sent["data"]["id"], sent["data"]["status"]) == ("job.canceled", job.id, "canceled")
    assert jobs.get(job.id).notified


def test_one_bad_url_does_not_stop_the_others(receiver, jobs, settings):
    settings = settings.model_copy(update={"webhook_secret": "s", "webhook_private": True})
    over(jobs, receiver.url.replace("localhost", "例え.invalid"))
    over(jobs, receiver.url.replace("/hook", "/hook\u00e9"))
    good = over(jobs, receiver.url)
    call(jobs, settings)
    assert jobs.get(good.id).notified


@pytest.mark.parametrize("status", [500, 404, 302])
def test_it_is_made_again_until_it_is_taken(receiver, jobs, settings, status, monkeypatch):
    monkeypatch.setattr(webhooks, "DELAYS", (0,) * 5)
    settings = settings.model_copy(update={"webhook_secret": "s", "webhook_private": True})
    receiver.statuses = [status, status]
    job = over(jobs, receiver.url)
    for _ in range(4):
        call(jobs, settings)
    assert len(receiver.calls) == 3
    assert {path for path, *_ in receiver.calls} == {"/hook?token=1"}  # a redirect is not followed
    assert jobs.get(job.id).notified


def test_it_is_given_up_in_the_end_and_waits_between(receiver, jobs, settings, monkeypatch):
    monkeypatch.setattr(webhooks, "DELAYS", (0, 0, 3600))
    settings = settings.model_copy(update={"webhook_secret": "s", "webhook_private": True})
    receiver.statuses = [500] * 9
    job = over(jobs, receiver.url)
    for _ in range(4):
        call(jobs, settings)
    assert len(receiver.calls) == 2
    monkeypatch.setattr(webhooks, "DELAYS", (0, 0, 0))
    call(jobs, settings)
    assert len(receiver.calls) == 3
    assert jobs.get(job.id).notified


def test_a_private_address_is_not_called(receiver, jobs, settings, monkeypatch):
    """Not even where its name was a public one's when the job was taken on."""
    monkeypatch.setattr(webhooks, "DELAYS", (0,))
    over(jobs, receiver.url)
    call(jobs, settings.model_copy(update={"webhook_secret": "s"}))
    assert receiver.calls == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost:1/",
        "http://10.1.2.3/x",
        "http://192.168.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[fd00::1]/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://100.64.0.1/",
    ],
)
def test_private_addresses(url):
    with pytest.raises(BadParameter, match="private address"):
        check_url(url)
    assert check_url(url, private=True)


@pytest.mark.parametrize("url", ["ftp://example.org/", "example.org", "http://", "http://x:99999/", "http://[::1"])
def test_what_is_no_url(url):
    with pytest.raises(BadParameter, match="URL"):
        check_url(url)


def test_a_public_address_is_connected_to_as_checked():
    parts, address = check_url("https://93.184.215.14:8443/path")
    assert (parts.port, address) == (8443, "93.184.215.14")


def test_a_signature_known_on_paper():
    """The example of the Standard Webhooks specification has the secret in base64; ours is the text itself."""
    digest = hmac.new(b"key", b"id.1.{}", sha256).digest()
    assert sign("key", "id", 1, b"{}") == "v1," + base64.b64encode(digest).decode()
