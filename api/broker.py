"""Messages to Celery's workers about new jobs. A lost message loses nothing: the workers look in the store as well."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from impasto.core.jobs.record import Job

PATIENCE = 2
"""Seconds that the broker has to take a message."""

log = logging.getLogger("impasto")


class Broker:
    """Publishes ids of jobs in the background. Without a URL it does nothing: the supervisor looks in the store."""

    def __init__(self, url: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="broker")
        self._app: Any = None
        if url:
            from celery import Celery

            self._app = Celery("impasto", broker=url, set_as_current=False)
            times = {"socket_connect_timeout": PATIENCE, "socket_timeout": PATIENCE}
            self._app.conf.update(broker_transport_options=times, task_publish_retry=False, task_ignore_result=True)

    def publish(self, job: Job) -> None:
        """Publish the id of a job in a moment. Returns at once and never raises."""
        if self._app:
            self._thread.submit(self._publish, job)

    def _publish(self, job: Job) -> None:
        try:
            with self._app.connection_for_write(transport_options={"max_retries": 0}) as connection:
                self._app.send_task("impasto.run", [job.id], connection=connection, queue=job.kind, retry=False)
        except Exception as error:  # a broker has many ways to be away
            log.warning("The broker did not take the id of a job, which its workers will find in the store: %s", error)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
