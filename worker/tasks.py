"""The Celery app: a message comes in, `worker.jobs.attempt` does the work.

    celery -A impasto.worker.tasks worker -Q gatys,train

A message says that a job is queued, and wakes a worker. Which job that does, the store of jobs decides: the broker may
lose messages, or repeat them. torch is never loaded here, as its first convolution would hang in a forked process.
"""

import logging
import multiprocessing
from contextlib import suppress
from functools import cache

from celery import Celery, signals
from kombu.exceptions import OperationalError

from impasto.core.errors import Gone, NotFound
from impasto.core.jobs.open import open_store
from impasto.core.jobs.reaper import Reaper
from impasto.core.jobs.record import KINDS, list_name
from impasto.core.jobs.storage import Storage, open_storage
from impasto.core.jobs.transitions import Jobs
from impasto.core.logs import log_json
from impasto.core.pictures.confine import hide_memory
from impasto.core.settings import Settings
from impasto.worker.jobs.attempt import STOP_GRACE, clear_work, run_next
from impasto.worker.jobs.heartbeat import Liveness
from impasto.worker.jobs.webhooks import WebhookCaller

app = Celery("impasto", broker=Settings().broker or "redis://localhost:6379/0")
app.conf.update(
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_publish_retry=False,  # the reaper publishes again
    worker_prefetch_multiplier=1,
    worker_concurrency=1,
    worker_soft_shutdown_timeout=STOP_GRACE,
    worker_cancel_long_running_tasks_on_connection_loss=False,  # the store decides, not the broker
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": 3600,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
    },
)

log = logging.getLogger("impasto")
_stopping = multiprocessing.Event()  # made before the fork: the main process sets it for its children


@cache
def _services() -> tuple[Jobs, Storage, Settings]:
    """Open the store and the storage, once for each process, after the fork."""
    settings = Settings()
    return Jobs(open_store(settings.store)), open_storage(settings.storage), settings


@app.task(name="impasto.run")  # type: ignore[untyped-decorator]
def run(id: str) -> None:
    """Do the next job of the same kind as this one: clients take turns, in whatever order they submit."""
    jobs, storage, settings = _services()
    with suppress(NotFound, Gone):  # it was deleted
        run_next(jobs.get(id).kind, jobs, storage, settings, _stopping.is_set)


@signals.celeryd_init.connect  # type: ignore[untyped-decorator]
def _hide(**_: object) -> None:
    """Before the fork: the processes that work are hidden with it."""
    hide_memory()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _log(**_: object) -> None:
    log_json(Settings().log)


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _keep(**_: object) -> None:
    settings = Settings()  # with connections of its own, as processes are forked later
    jobs, storage = Jobs(open_store(settings.store)), open_storage(settings.storage)
    clear_work(settings.work)

    sign, caller = Liveness(jobs, set(KINDS) & set(app.amqp.queues.consume_from)), WebhookCaller(jobs, settings)

    def also() -> None:
        sign()
        publish_waiting(jobs)
        caller.look()

    Reaper(jobs, storage, settings, also).start()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop(**_: object) -> None:
    _stopping.set()


def publish_waiting(jobs: Jobs) -> None:
    """Publish a message for each queued job where the broker has none of their kind.

    It was down, or emptied, or a worker lost them. A message too many does no harm.
    """
    for kind in KINDS:
        queued = jobs.store.list(list_name("queued", kind))
        if not queued:
            continue
        try:  # any trouble with the broker comes as OperationalError
            with app.connection_for_write() as connection:  # a new one declares its queues again: they may be lost
                connection.ensure_connection(max_retries=1, timeout=2)
                with connection.channel() as channel:
                    waiting = channel.queue_declare(queue=kind).message_count
                if waiting == 0:
                    for job in queued:
                        run.apply_async([job.id], connection=connection, queue=kind)
        except OperationalError as error:
            log.warning("The broker cannot be reached: %s", error)
            return
