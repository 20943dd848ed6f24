"""The Celery app: an id comes in, `worker.jobs.attempt` does the work.

    celery -A impasto.worker.tasks worker -Q gatys,train

The broker only carries ids and may lose or repeat them; the store of jobs knows what is to be done. torch is never
loaded here: in a forked process its first convolution would hang.
"""

import logging
import multiprocessing
from functools import cache

from celery import Celery, signals
from kombu.exceptions import OperationalError

from impasto.core.jobs.open import open_store
from impasto.core.jobs.reaper import Keeper
from impasto.core.jobs.record import KINDS
from impasto.core.jobs.storage import Storage, open_storage
from impasto.core.jobs.transitions import Jobs
from impasto.core.logs import log_json
from impasto.core.pictures.confine import hide_memory
from impasto.core.settings import Settings
from impasto.worker.jobs.attempt import STOP_GRACE, clear_work, run_job
from impasto.worker.jobs.heartbeat import Sign
from impasto.worker.jobs.webhooks import call_webhooks

app = Celery("impasto", broker=Settings().broker or "redis://localhost:6379/0")
app.conf.update(
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_publish_retry=False,  # the keeper publishes again
    worker_prefetch_multiplier=1,
    worker_concurrency=1,
    worker_soft_shutdown_timeout=STOP_GRACE,
    worker_cancel_long_running_tasks_on_connection_loss=False,  # the store knows, not the broker
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": 3600,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
    },
)

log = logging.getLogger("impasto")
_stopping = multiprocessing.Event()  # made before the fork: the main process tells those that work


@cache
def _office() -> tuple[Jobs, Storage, Settings]:
    """Of this process: opened after the fork, by whoever works."""
    settings = Settings()
    return Jobs(open_store(settings.store)), open_storage(settings.storage), settings


@app.task(name="impasto.run")  # type: ignore[untyped-decorator]
def run(id: str) -> None:
    """Do the job of that id, if it is still to be done."""
    run_job(id, *_office(), _stopping.is_set)


@signals.celeryd_init.connect  # type: ignore[untyped-decorator]
def _hide(**_: object) -> None:
    """Before the fork: the processes that work are hidden with it."""
    hide_memory()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _log(**_: object) -> None:
    log_json(Settings().log)


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _keep(**_: object) -> None:
    settings = Settings()  # and connections of its own, which no process that is forked later shares
    jobs, storage = Jobs(open_store(settings.store)), open_storage(settings.storage)
    clear_work(settings.work)

    sign = Sign(jobs, set(KINDS) & set(app.amqp.queues.consume_from))

    def also() -> None:
        sign()
        publish_waiting(jobs)
        call_webhooks(jobs, settings)

    Keeper(jobs, storage, settings, also).start()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop(**_: object) -> None:
    _stopping.set()


def publish_waiting(jobs: Jobs) -> None:
    """Publish the ids of queued jobs where the broker holds none of their kind: it was down, or emptied, or they had
    been lost by a worker. An id that is published twice does no harm."""
    for kind in KINDS:
        queued = jobs.store.list(f"queued {kind}")
        if not queued:
            continue
        try:  # any trouble with the broker comes as OperationalError
            with app.connection_for_write() as connection:  # a new one declares its queues anew: they may be forgotten
                connection.ensure_connection(max_retries=1, timeout=2)
                with connection.channel() as channel:
                    waiting = channel.queue_declare(queue=kind).message_count
                if waiting == 0:
                    for job in queued:
                        run.apply_async([job.id], connection=connection, queue=kind)
        except OperationalError as error:
            log.warning("The broker cannot be reached: %s", error)
            return
