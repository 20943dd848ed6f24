"""Calling webhooks: a signed POST when a job is over, repeated until the receiver has taken it."""

import asyncio
import errno
import json
import logging
import random
import socket
import threading
from collections import Counter
from datetime import UTC, datetime

import aiohttp
from standardwebhooks import Webhook
from yarl import URL

from impasto.core.errors import BadParameter, ImpastoError
from impasto.core.jobs.record import Job
from impasto.core.jobs.transitions import Jobs
from impasto.core.jobs.webhooks import check_address, webhook_secret
from impasto.core.settings import Settings

DEADLINE = 10.0
"""Seconds that a call may take in all: finding the host's address, connecting, TLS, and the answer's header."""
PAUSES = (15, 30, 300, 1800, 7200, 21600, 15)
"""Seconds from the start of each call to the next, longer than a call takes; after the last one it is given up."""
AT_ONCE = 32
"""Calls under way at once."""
OF_ONE = 4
"""Calls under way at once for one client."""

log = logging.getLogger("impasto")


class WebhookCaller:
    """Calls the webhooks that are due, each in a thread of its own.

    Clients share the threads: the one with the fewest calls under way is next, and none has more than `OF_ONE`.
    """

    def __init__(self, jobs: Jobs, settings: Settings) -> None:
        self.jobs, self.settings = jobs, settings
        self._calls: list[tuple[str, threading.Thread]] = []

    def look(self) -> None:
        """Begin the calls that are due, as many as there are threads for. Wait for none."""
        self._calls = [(client, thread) for client, thread in self._calls if thread.is_alive()]
        under_way = Counter(client for client, _ in self._calls)
        now = self.jobs.clock()
        clients = self.jobs.store.webhook_clients(now)
        shuffled = random.sample(clients, len(clients))  # among equals nobody is always first
        for client in sorted(shuffled, key=lambda client: under_way[client]):
            room = min(OF_ONE - under_way[client], AT_ONCE - len(self._calls))
            try:
                for job in self.jobs.store.webhooks_due(client, now, room) if room > 0 else []:
                    self._begin(client, job)
            except ImpastoError:  # the store is away, for all
                raise
            except Exception:  # such as a record that cannot be read: the other clients are called
                log.exception("the webhooks of %s cannot be called", client)

    def wait(self) -> None:
        """Wait until the calls that were begun are over."""
        for _, thread in self._calls:
            thread.join()

    def _begin(self, client: str, job: Job) -> None:
        """Begin the next call of a job's webhook, unless another worker does; or give up after the last.

        The record counts the call and has the time of the next one before the call is made. So it makes no difference
        whether a call fails or its worker dies.
        """
        if job.calls >= len(PAUSES):
            log.warning("the webhook of job %s is given up after %d calls", job.id, job.calls)
            self.jobs.mark(job.id, notified=True)
        elif self.jobs.begin_call(job, PAUSES[job.calls]):
            thread = threading.Thread(target=self._call, args=(job,), name="webhook", daemon=True)
            thread.start()
            self._calls.append((client, thread))

    def _call(self, job: Job) -> None:
        """Call, and note in the record if the call was taken, which is any 2xx."""
        try:
            status = asyncio.run(_post(job, self.settings))
            if 200 <= status < 300:
                self.jobs.mark(job.id, notified=True)
            else:
                log.warning("the webhook of job %s answered %d", job.id, status)
        except Exception as error:  # URLs and receivers are strangers': any error may come, and is a failed call
            reason = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
            log.warning("the webhook of job %s failed: %s%s", job.id, type(error).__name__, reason)  # without its URL


async def _post(job: Job, settings: Settings) -> int:
    """Send the signed call; the status of the answer. Redirects are not followed: nobody has checked where they go."""
    now = datetime.now(UTC)
    data = {"id": job.id, "kind": job.kind, "status": job.status, "error": job.error and job.error.model_dump()}
    body = json.dumps({"type": f"job.{job.status}", "timestamp": int(now.timestamp()), "data": data})
    headers = {
        "content-type": "application/json",
        "webhook-id": job.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(webhook_secret(settings.webhook_secret, job.owner)).sign(job.id, now, body),
    }
    url = URL(job.webhook or "", encoded=(job.webhook or "").isascii())  # as it is: it may have a signature in it
    connector = aiohttp.TCPConnector(socket_factory=None if settings.webhook_private else _public_socket)
    timeout = aiohttp.ClientTimeout(total=DEADLINE)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session,
        session.post(url, data=body, allow_redirects=False) as answer,
    ):
        return answer.status


def _public_socket(found: aiohttp.AddrInfoType) -> socket.socket:
    """A socket for an address that is about to be connected to. Raises OSError for a private one.

    The URL was checked when the job was submitted, but its host may have another address by now.
    """
    family, kind, protocol, _, address = found
    try:
        check_address(str(address[0]), int(address[1]))
    except BadParameter as error:
        raise PermissionError(errno.EACCES, error.message) from error  # aiohttp goes on to the host's next address
    return socket.socket(family, kind, protocol)
