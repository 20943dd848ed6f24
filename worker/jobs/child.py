"""The child process of a job: `python -m impasto.worker.jobs.child FOLDER`, the only one of a worker that loads torch.

`worker.jobs.protocol` describes what it reads and writes.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from impasto.core.errors import ImpastoError
from impasto.core.jobs.record import Failure
from impasto.core.logs import log_json, request_id
from impasto.core.pictures.confine import hide_memory
from impasto.worker.jobs.protocol import Context, Message, Spec

NICE = 5
"""The priority of a job's process, from 0 to 19, the lowest."""


def main() -> None:
    hide_memory()
    _step_back()
    folder = Path(sys.argv[1])
    news = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # standard output is for messages alone
    context = Context(folder, Spec.model_validate_json((folder / "spec.json").read_bytes()), news)
    log_json(context.settings.log)
    request_id.set(context.job.request)
    threading.Thread(target=context.listen, daemon=True).start()
    try:
        context.tell(_work(context)(context))
    except ImpastoError as error:
        context.tell(Message(ending="failed", error=Failure(code=error.code, message=error.message)))
    except Exception as error:
        logging.exception("job %s", context.job.id)
        message = f"The job failed on an internal error ({type(error).__name__}), which has been logged."
        context.tell(Message(ending="failed", error=Failure(code="internal", message=message)))
    os._exit(0)  # at once: nothing is left to do, and torch's threads take their time


def _step_back() -> None:
    """Take a low priority: on a machine that also paints at once, somebody waits for that."""
    os.nice(NICE)
    with suppress(OSError):  # Linux may share processors out by session first, and this process leads one
        Path("/proc/self/autogroup").write_text(str(NICE))


def _work(context: Context) -> Callable[[Context], Message]:
    if context.job.kind == "gatys":
        from impasto.worker.jobs.gatys import paint

        return paint
    from impasto.worker.jobs.train import train

    return train


if __name__ == "__main__":
    main()
