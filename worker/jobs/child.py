"""The child process of a job: `python -m impasto.worker.jobs.child FOLDER`, the only one of a worker that loads torch.

`worker.jobs.protocol` describes what it reads and writes. When its standard input ends, its parent is dead, and it ends
at once, too.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from impasto.core.errors import ImpastoError
from impasto.core.jobs.record import Failure
from impasto.core.logs import log_json, request_id
from impasto.core.pictures.confine import hide_memory
from impasto.worker.jobs.protocol import Desk, Message, Spec


def main() -> None:
    hide_memory()
    folder = Path(sys.argv[1])
    news = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else writes to standard output
    desk = Desk(folder, Spec.model_validate_json((folder / "spec.json").read_bytes()), news)
    log_json(desk.settings.log)
    request_id.set(desk.job.request)
    threading.Thread(target=desk.listen, daemon=True).start()
    try:
        desk.tell(_work(desk)(desk))
    except ImpastoError as error:
        desk.tell(Message(ending="failed", error=Failure(code=error.code, message=error.message)))
    except Exception as error:
        logging.exception("job %s", desk.job.id)
        message = f"The work ended in an error that should not have been, {type(error).__name__}. It has been logged."
        desk.tell(Message(ending="failed", error=Failure(code="internal", message=message)))
    os._exit(0)  # at once: nothing is left to do, and torch's threads take their time


def _work(desk: Desk) -> Callable[[Desk], Message]:
    if desk.job.kind == "gatys":
        from impasto.worker.jobs.gatys import paint

        return paint
    from impasto.worker.jobs.train import train

    return train


if __name__ == "__main__":
    main()
