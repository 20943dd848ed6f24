"""Jobs on one machine: a supervisor beside the API takes them from the store and runs each in a child process.

`impasto serve` starts `python -m impasto.worker.embedded`, and starts it again when it has ended. There is no broker:
the store is the queue. One job of each kind runs at a time, so that a painting of minutes never waits for a training of
hours. When its standard input ends, its parent is dead or wants it to end: jobs under way then go back to the queue
with their state.
"""

import logging
import os
import signal
import sys
import threading
import time

from impasto.core.errors import ImpastoError
from impasto.core.jobs.open import open_store
from impasto.core.jobs.reaper import Reaper
from impasto.core.jobs.record import KINDS, Kind
from impasto.core.jobs.storage import Storage, open_storage
from impasto.core.jobs.transitions import Jobs
from impasto.core.logs import log_json
from impasto.core.pictures.confine import hide_memory
from impasto.core.settings import Settings
from impasto.worker.jobs.attempt import STOP_GRACE, clear_work, run_next
from impasto.worker.jobs.heartbeat import Liveness
from impasto.worker.jobs.webhooks import WebhookCaller

LOOK_EVERY = 0.5
"""Seconds between two looks for a job."""

log = logging.getLogger("impasto")


def supervise(settings: Settings, stop: threading.Event) -> None:
    """Run jobs until `stop`."""
    jobs, storage = Jobs(open_store(settings.store)), open_storage(settings.storage)
    clear_work(settings.work)
    sign, caller = Liveness(jobs, KINDS), WebhookCaller(jobs, settings)

    def also() -> None:
        sign()
        caller.look()

    reaper = Reaper(jobs, storage, settings, also)
    reaper.start()
    threads = [
        threading.Thread(target=_run_kind, args=(kind, jobs, storage, settings, stop), name=kind) for kind in KINDS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reaper.close()
    jobs.store.close()


def _run_kind(kind: Kind, jobs: Jobs, storage: Storage, settings: Settings, stop: threading.Event) -> None:
    """Run one job of a kind after the other."""
    while not stop.is_set():
        worked = False
        try:
            worked = run_next(kind, jobs, storage, settings, stop.is_set)
        except ImpastoError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("the thread for %s jobs goes on", kind)
        if not worked:
            stop.wait(LOOK_EVERY)


def main() -> None:
    hide_memory()
    settings = Settings()
    log_json(settings.log)
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which closes our standard input
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_listen, args=(stop,), daemon=True).start()
    supervise(settings, stop)


def _listen(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()
    time.sleep(STOP_GRACE + 10)
    os._exit(1)


if __name__ == "__main__":
    main()
