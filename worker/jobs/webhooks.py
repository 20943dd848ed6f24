"""Calling webhooks: a signed POST when a job is over, repeated until the other side has taken it."""

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import urllib3

from impasto.core.errors import ImpastoError
from impasto.core.jobs.record import Job
from impasto.core.jobs.transitions import Jobs
from impasto.core.jobs.webhooks import check_url, sign
from impasto.core.settings import Settings

DELAYS = (0, 5, 30, 300, 1800, 7200, 28800)
"""Seconds after a job's end, of each call; after the last it is given up."""
MOST = 1000
"""Jobs that are looked at, at a time."""
AT_ONCE = 8
PATIENCE = urllib3.Timeout(connect=3, read=10)

log = logging.getLogger("impasto")
_under_way = threading.Lock()


def call_webhooks(jobs: Jobs, settings: Settings) -> None:
    """Call what is due, in a thread of its own unless one is under way: the other side may be slow."""
    if _under_way.acquire(blocking=False):
        try:
            due = [job for job in jobs.store.list("unnotified", limit=MOST) if _is_due(job)]
        except BaseException:
            _under_way.release()
            raise
        threading.Thread(target=_call_all, args=(due, jobs, settings), daemon=True).start()


def _is_due(job: Job) -> bool:
    assert job.finished
    return time.time() - job.finished.timestamp() >= DELAYS[job.calls]


def _call_all(due: list[Job], jobs: Jobs, settings: Settings) -> None:
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for job in due:
                pool.submit(_call_one, job, jobs, settings)
    finally:
        _under_way.release()


def _call_one(job: Job, jobs: Jobs, settings: Settings) -> None:
    """The next call of a job's webhook, unless another worker is making it."""
    try:
        if mine := jobs.begin_call(job):
            taken = _call(job, settings)
            if taken or mine.calls == len(DELAYS):
                jobs.mark(job.id, notified=True)
    except Exception:  # a URL of somebody else's must not stop the calls of all others
        log.exception("the webhook of job %s", job.id)


def _call(job: Job, settings: Settings) -> bool:
    """Whether the call was taken: any 2xx. Redirects are not followed, as they lead where nobody has looked."""
    assert job.webhook
    now = int(time.time())
    data = {"id": job.id, "kind": job.kind, "status": job.status, "error": job.error and job.error.model_dump()}
    body = json.dumps({"type": f"job.{job.status}", "timestamp": now, "data": data}).encode()
    try:
        url, address = check_url(job.webhook, settings.webhook_private)
        tls = {"server_hostname": url.hostname, "assert_hostname": url.hostname} if url.scheme == "https" else {}
        pool = urllib3.connection_from_url(f"{url.scheme}://{_bracketed(address)}:{url.port or ''}".rstrip(":"), **tls)
        with pool:
            response = pool.request(
                "POST",
                (url.path or "/") + (f"?{url.query}" if url.query else ""),
                body=body,
                headers={
                    "host": url.netloc.rpartition("@")[2].encode("idna").decode(),
                    "content-type": "application/json",
                    "webhook-id": job.id,
                    "webhook-timestamp": str(now),
                    "webhook-signature": sign(settings.webhook_secret, job.id, now, body),
                },
                timeout=PATIENCE,
                retries=False,
                redirect=False,
                preload_content=False,  # what it answers does not matter, nor how much
            )
            response.close()
        if 200 <= response.status < 300:
            return True
        log.warning("the webhook of job %s answered %d", job.id, response.status)
    except (ImpastoError, urllib3.exceptions.HTTPError) as error:
        log.warning("the webhook of job %s: %s", job.id, error)
    return False


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
