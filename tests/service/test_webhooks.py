"""Webhooks: a call is signed, made until it is taken, and given up in the end."""

import json
import os
import ssl
import subprocess
import sys
import time

import pytest
from standardwebhooks import Webhook

from impasto.core.jobs.transitions import Jobs
from impasto.core.jobs.webhooks import webhook_secret
from impasto.core.settings import ROOT, Settings
from impasto.worker.jobs.webhooks import PAUSES, WebhookCaller
from tests.helpers.receivers import WORKER, over

SECRETS = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_abcdefghijklmnopqrstuvwxyz0", "s3cret of our own"]
"""With its base64 whole, without its padding, and text."""


@pytest.fixture
def settings(settings: Settings, store_url: str) -> Settings:
    return settings.model_copy(update={"store": store_url, "webhook_secret": SECRETS[0], "webhook_private": True})


def look(jobs: Jobs, settings: Settings) -> None:
    """One look for webhooks that are due, and their calls to the end."""
    caller = WebhookCaller(jobs, settings)
    caller.look()
    caller.wait()


@pytest.mark.parametrize("secret", SECRETS)
def test_a_call_is_verified_by_standard_webhooks_and_made_once(receiver, jobs, settings, clock, secret):
    settings = settings.model_copy(update={"webhook_secret": secret})
    job = over(jobs, receiver.url)
    look(jobs, settings)
    clock.now += sum(PAUSES)
    look(jobs, settings)
    ((path, headers, body),) = receiver.calls
    assert path == "/hook?token=1"
    assert headers["webhook-id"] == job.id
    assert headers["host"] == f"localhost:{receiver.server_port}"
    sent = Webhook(secret if secret.startswith("whsec_") else secret.encode()).verify(body, headers)
    assert (sent["type"], sent["data"]["id"], sent["data"]["status"]) == ("job.canceled", job.id, "canceled")
    assert jobs.get(job.id).notified


def test_the_python_lines_of_the_docs_verify_a_call(receiver, jobs, settings, capsys):
    job = over(jobs, receiver.url, owner="ann")
    look(jobs, settings)
    _, headers, body = receiver.calls[0]
    page = (ROOT / "docs/http.md").read_text()
    section = page[page.index("### Webhooks") : page.index("## Keys")]
    lines = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    lines = lines[lines.index("from standardwebhooks import Webhook") :]
    code = "\n".join(lines)
    assert "whsec_…" in code
    exec(code.replace("whsec_…", webhook_secret(settings.webhook_secret, "ann")), {"body": body, "headers": headers})
    assert capsys.readouterr().out == f"{job.id} canceled\n"


@pytest.mark.parametrize("path", ["/", "/a%7Eb/c%2Fd?sig=e%2Ff%3D+g&h", "/%C3%A9"])
def test_a_url_is_called_as_it_is(receiver, jobs, settings, path):
    over(jobs, receiver.url.replace("/hook?token=1", path))
    look(jobs, settings)
    assert [called for called, *_ in receiver.calls] == [path]


def test_a_url_in_other_letters_is_encoded(receiver, jobs, settings):
    over(jobs, receiver.url.replace("/hook", "/é"))
    look(jobs, settings)
    assert [called for called, *_ in receiver.calls] == ["/%C3%A9?token=1"]


@pytest.mark.parametrize("trusted", [True, False])
def test_a_receiver_over_tls_shows_a_certificate(receiver, jobs, settings, tmp_path, trusted):
    """`SSL_CERT_FILE` is read when a process begins."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    job = over(jobs, receiver.url.replace("http:", "https:"))
    environment = os.environ | ({"SSL_CERT_FILE": str(certificate)} if trusted else {})
    subprocess.run([sys.executable, "-c", WORKER, settings.store, SECRETS[0]], env=environment, check=True)
    assert len(receiver.calls) == int(trusted)
    assert (jobs.get(job.id).calls, jobs.get(job.id).notified) == (1, trusted)


@pytest.mark.parametrize("status", [500, 404, 302])
def test_it_is_made_again_until_it_is_taken(receiver, jobs, settings, clock, status):
    receiver.statuses = [status, status]
    job = over(jobs, receiver.url)
    for pause in PAUSES[:4]:
        look(jobs, settings)
        clock.now += pause
    assert len(receiver.calls) == 3
    assert {path for path, *_ in receiver.calls} == {"/hook?token=1"}  # a redirect is not followed
    assert jobs.get(job.id).notified


def test_it_waits_between_calls_and_is_given_up_in_the_end(receiver, jobs, settings, clock):
    receiver.statuses = [500] * 9
    job = over(jobs, receiver.url)
    for number, pause in enumerate(PAUSES, start=1):
        look(jobs, settings)
        clock.now += pause - 1
        look(jobs, settings)
        assert len(receiver.calls) == number
        assert not jobs.get(job.id).notified
        clock.now += 1
    look(jobs, settings)
    clock.now += sum(PAUSES)
    look(jobs, settings)
    assert len(receiver.calls) == len(PAUSES) == 7
    assert jobs.get(job.id).notified


def test_a_private_address_is_not_called(receiver, jobs, settings, caplog):
    """A name that was a public one's when the job was submitted, and an address that was written into the record."""
    settings = settings.model_copy(update={"webhook_private": False})
    sent = [over(jobs, receiver.url), over(jobs, receiver.url.replace("localhost", "127.0.0.1"))]
    look(jobs, settings)
    assert receiver.calls == []
    assert [(jobs.get(job.id).calls, jobs.get(job.id).notified) for job in sent] == [(1, False)] * 2
    assert "127.0.0.1 is a private address" in caplog.text


def test_two_workers_make_one_call(receiver, jobs, settings):
    over(jobs, receiver.url)
    callers = [WebhookCaller(jobs, settings) for _ in range(2)]
    for caller in callers:
        caller.look()
    for caller in callers:
        caller.wait()
    assert len(receiver.calls) == 1


def test_the_time_of_a_call_is_now(receiver, jobs, settings):
    over(jobs, receiver.url)
    before = int(time.time())
    look(jobs, settings)
    _, headers, body = receiver.calls[0]
    assert before <= int(headers["webhook-timestamp"]) == json.loads(body)["timestamp"] <= time.time()
