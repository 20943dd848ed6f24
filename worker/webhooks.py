"""Calling webhooks: a signed POST when a job is over, repeated until the other side has taken it."""

import json
import logging
import threading
import time

import urllib3

from core.errors import ImpastoError
from core.jobs import Job, Jobs
from core.settings import Settings
from core.webhooks import check_url, sign

DELAYS = (0, 5, 30, 300, 1800, 7200, 28800)
"""Seconds after a job's end, of each call; after the last it is given up."""
PATIENCE = urllib3.Timeout(connect=3, read=10)

log = logging.getLogger("impasto")
_under_way = threading.Lock()
_called: dict[str, int] = {}  # job -> calls so far, in this process


def call_webhooks(jobs: Jobs, settings: Settings) -> None:
    """Call what is due, in a thread of its own unless one is under way: the other side may be slow."""
    due = [job for job in jobs.store.list("unnotified") if _is_due(job)]
    if due and _under_way.acquire(blocking=False):
        threading.Thread(target=_call_all, args=(due, jobs, settings), daemon=True).start()


def _is_due(job: Job) -> bool:
    assert job.finished
    return time.time() - job.finished.timestamp() >= DELAYS[_called.get(job.id, 0)]


def _call_all(due: list[Job], jobs: Jobs, settings: Settings) -> None:
    try:
        for job in due:
            done = _call(job, settings)
            _called[job.id] = _called.get(job.id, 0) + 1
            if done or _called[job.id] == len(DELAYS):
                jobs.mark(job.id, notified=True)
                del _called[job.id]
    except ImpastoError as error:
        log.warning("%s", error)
    finally:
        _under_way.release()


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
                    "host": url.netloc.rpartition("@")[2],
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
