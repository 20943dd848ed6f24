"""Attacks on webhooks: whatever a client's receivers do, the calls of others are made and nothing stops."""

import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from standardwebhooks import Webhook, WebhookVerificationError

from impasto.api.main import create_app
from impasto.core.jobs.open import open_store
from impasto.core.jobs.record import Job
from impasto.core.jobs.transitions import Jobs
from impasto.core.settings import Settings
from impasto.worker.jobs import webhooks
from impasto.worker.jobs.webhooks import OF_ONE, PAUSES, WebhookCaller
from tests.helpers.receivers import WORKER, RawReceiver, Receiver, drip, over, silent
from tests.helpers.work import Clock, with_our_styles

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def clock() -> Clock:
    return Clock(float(int(time.time())))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    changes = {"webhook_secret": SECRET, "webhook_private": True}
    return with_our_styles(settings.model_copy(update=changes))


@pytest.fixture
def caller(jobs: Jobs, settings: Settings) -> WebhookCaller:
    return WebhookCaller(jobs, settings)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_slow_receiver_holds_up_nobody_else(receiver, jobs, caller):
    """One byte every 4 s held the calls of all others for 92 s, and had no end."""
    with RawReceiver(drip) as slow:
        bad = over(jobs, slow.url)
        caller.look()
        assert slow.called.wait(60)
        good = over(jobs, receiver.url)
        caller.look()
        until(lambda: jobs.get(good.id).notified)
        (held,) = [thread for client, thread in caller._calls if client == jobs.get(bad.id).webhook_client]
        assert held.is_alive()
    caller.wait()


@pytest.mark.parametrize("answer", [drip, silent])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_call_has_one_deadline(jobs, caller, monkeypatch, answer, scheme):
    monkeypatch.setattr(webhooks, "DEADLINE", 0.5)
    with RawReceiver(answer) as slow:
        job = over(jobs, slow.url.replace("http", scheme))
        caller.look()
        caller.wait()  # it never came back
        assert slow.called.is_set()
        assert not slow.closing.is_set()
    assert (jobs.get(job.id).calls, jobs.get(job.id).notified) == (1, False)


def says(data: bytes) -> Callable[[socket.socket, threading.Event], None]:
    return lambda connection, closing: connection.sendall(data)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\xff\r\n\r\n",
        b"HTTP/1.1 999999999999 ?\r\n\r\n",
        b"HTTP/1.1 2\xb20 OK\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: \xff\xfe://\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 10_000_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1_000_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    ],
    ids=lambda answer: repr(answer[:30]),
)
def test_every_broken_answer_counts_and_the_last_is_given_up(jobs, caller, clock, receiver, answer, caplog):
    with RawReceiver(says(answer)) as broken:
        every_failure_counts(jobs, caller, clock, receiver, f"{broken.url}?token=s3cret")
    assert "given up after 7 calls" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:" + "0" * 70 + "80000/",
        "http://[::1",
        "http://" + "x" * 64 + ".example/",
        "http://a..b/",
        "http://\u2100.example/",
        "http://例え.invalid/",
        "http://127.0.0.1:1/",
        "gopher://127.0.0.1/",
        "nothing",
        "",
        "http://127.0.0.1/" + "x" * 1_000_000,
    ],
    ids=lambda url: ascii(url[:30]),
)
def test_every_broken_url_in_a_record_counts_and_is_given_up(jobs, caller, clock, receiver, url):
    """A URL that broke IDNA ended in an IndexError after seven calls, and stopped all webhooks for a week."""
    every_failure_counts(jobs, caller, clock, receiver, url or " ")


def every_failure_counts(jobs: Jobs, caller: WebhookCaller, clock: Clock, receiver: Receiver, url: str) -> None:
    bad = over(jobs, url)
    for number, pause in enumerate(PAUSES, start=1):
        caller.look()
        caller.wait()
        assert (jobs.get(bad.id).calls, jobs.get(bad.id).notified) == (number, False)
        clock.now += pause
    good = over(jobs, receiver.url)
    caller.look()
    caller.wait()
    assert (jobs.get(bad.id).calls, jobs.get(bad.id).notified) == (len(PAUSES), True)
    assert jobs.get(good.id).notified
    assert list(jobs.store.webhook_clients(clock.now + 1e9)) == []


def test_a_worker_killed_during_the_seventh_call_stops_nothing(jobs, caller, clock, receiver, store_url):
    before = datetime.now(UTC) - timedelta(hours=9)
    with RawReceiver(silent) as slow:
        bad = Job(
            kind="gatys", params={}, webhook=slow.url, status="canceled", finished=before, created=before, calls=6
        )
        jobs.store.add(bad)
        worker = subprocess.Popen([sys.executable, "-c", WORKER, store_url, SECRET])
        assert slow.called.wait(60)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert (jobs.get(bad.id).calls, jobs.get(bad.id).notified) == (7, False)
    good = over(jobs, receiver.url)
    clock.now = time.time() + PAUSES[-1]
    caller.look()
    caller.wait()
    assert jobs.get(good.id).notified
    assert (jobs.get(bad.id).calls, jobs.get(bad.id).notified) == (7, True)


def test_a_record_that_cannot_be_read_stops_its_client_alone(settings, receiver, caplog):
    store = open_store(settings.store)
    jobs = Jobs(store)
    broken = over(jobs, "http://broken.example/")
    good = over(jobs, receiver.url)
    with sqlite3.connect(settings.store) as db:
        db.execute("UPDATE jobs SET record = ? WHERE id = ?", ('{"status": "unheard of"}', broken.id))
    db.close()
    caller = WebhookCaller(jobs, settings)
    until(lambda: (caller.look(), jobs.get(good.id).notified)[1])
    assert "host broken.example cannot be called" in caplog.text
    store.close()


@pytest.mark.parametrize("owners", [("mallory", "ann"), (None, None)], ids=["keys", "hosts"])
def test_a_thousand_dead_addresses_of_one_client_starve_nobody(jobs, caller, receiver, owners):
    """Oldest first, they were called before anybody else's, for hours."""
    before = datetime.now(UTC) - timedelta(hours=1)
    with RawReceiver(silent) as dead:
        for number in range(1000):
            finished = before + timedelta(milliseconds=number)
            jobs.store.add(
                Job(
                    kind="gatys",
                    params={},
                    owner=owners[0],
                    webhook=f"{dead.url}{number}",
                    status="canceled",
                    created=finished,
                    finished=finished,
                )
            )
        caller.look()
        good = over(jobs, receiver.url, owner=owners[1])
        caller.look()
        until(lambda: jobs.get(good.id).notified)
        called = [job for job in jobs.store.list("canceled", limit=2000) if job.calls and job.id != good.id]
        assert len(called) == OF_ONE
    caller.wait()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://8.8.8.8/" + "x" * 1_000_000, "2,048"),
        ("http://8.8.8.8:" + "0" * 2_100 + "80/", "2,048"),
        ("http://" + "x" * 64 + ".example/", "has no address"),
        ("http://a..b/", "has no address"),
        ("http://\u2100.example/", "is not a URL"),
    ],
)
def test_a_url_that_cannot_be_called_is_refused(settings, png, url, said):
    """Twenty URLs of 1 MB filled a Redis of 24 MB."""
    with TestClient(create_app(settings)) as client:
        fields = {"kind": "gatys", "style": "wave", "webhook": url}
        answer = client.post("/jobs", data=fields, files={"image": png})
        assert (answer.status_code, answer.json()["error"]) == (422, "bad_parameter"), answer.text
        assert said in answer.json()["detail"]
        assert len(answer.text) < 1000
    assert open_store(settings.store).count("all") == 0


def test_no_client_forges_a_call_to_another(settings, png, receiver, tmp_path, monkeypatch, impasto):
    """The secrets are those that a client gets from the operator."""
    monkeypatch.setenv("IMPASTO_WEBHOOK_SECRET", SECRET)
    settings = settings.model_copy(update={"keys": str(tmp_path / "keys")})
    secrets: dict[str, Webhook] = {}
    for name in ("ann", "bob"):
        _, key, said = impasto("keys", "--file", settings.keys, "add", name)
        secret = said.split()[-1]
        assert impasto("keys", "--file", settings.keys, "webhook-secret", name)[1] == f"{secret}\n"
        secrets[name] = Webhook(secret)
        with TestClient(create_app(settings), headers={"Authorization": f"Bearer {key.strip()}"}) as client:
            fields = {"kind": "gatys", "style": "wave", "webhook": f"{receiver.url}&{name}"}
            job = client.post("/jobs", data=fields, files={"image": png})
            assert job.status_code == 202, job.text
            client.post(f"/jobs/{job.json()['id']}/cancel")
    caller = WebhookCaller(Jobs(open_store(settings.store)), settings)
    caller.look()
    caller.wait()
    assert len(receiver.calls) == 2
    for path, headers, body in receiver.calls:
        mine = path.rpartition("&")[2]
        assert secrets.pop(mine).verify(body, headers)["data"]["status"] == "canceled"
        for forger in (*secrets.values(), Webhook(SECRET), Webhook(mine.encode())):
            with pytest.raises(WebhookVerificationError):
                forger.verify(body, headers)
        secrets[mine] = Webhook(impasto("keys", "--file", settings.keys, "webhook-secret", mine)[1].strip())


def test_the_secret_of_a_key_needs_a_key_and_the_services_secret(tmp_path, monkeypatch, impasto):
    path = Path(tmp_path / "keys")
    monkeypatch.delenv("IMPASTO_WEBHOOK_SECRET", raising=False)
    status, key, said = impasto("keys", "--file", path, "add", "ann")
    assert (status, said) == (0, "")
    assert key.startswith("impasto_")
    status, shown, said = impasto("keys", "--file", path, "webhook-secret", "ann")
    assert (status != 0, shown, "IMPASTO_WEBHOOK_SECRET" in said) == (True, "", True)
    monkeypatch.setenv("IMPASTO_WEBHOOK_SECRET", SECRET)
    status, shown, said = impasto("keys", "--file", path, "webhook-secret", "bob")
    assert (status != 0, shown, "no key 'bob'" in said) == (True, "", True)
