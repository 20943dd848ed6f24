"""The process that does a job's work: `python -m worker.child <folder>`, the only one here that loads torch.

In the folder lies `spec.json`; what the work makes is written beside it, whole. News go out on standard output, a JSON
object a line. On standard input come `cancel` (give back the best so far) and `stop` (save, and go on another time).
When standard input ends, whoever started it is dead, and so is this process at once.
"""

import itertools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel

from core.errors import ImpastoError
from core.jobs import Failure, Job, Progress
from core.logs import log_json, request_id
from core.settings import Settings

PREVIEW_EVERY = 4.0
PLOT_EVERY = 30.0
"""Seconds between two of them, at least."""

Ending = Literal["succeeded", "failed", "canceled", "stopped"]


class Spec(BaseModel):
    """What a child is told: the job, and the settings of who started it."""

    job: Job
    settings: Settings


class Message(BaseModel):
    """What a child tells: how far it is, the files it has written since (by what they are for), and at last its end."""

    progress: Progress | None = None
    files: dict[str, str] = {}
    ending: Ending | None = None
    error: Failure | None = None


class Desk:
    """What the work is done with: its folder, orders that came, a way to tell news."""

    def __init__(self, folder: Path, spec: Spec, news: IO[str]) -> None:
        self.folder, self.job, self.settings, self.news = folder, spec.job, spec.settings, news
        self.order: Literal["", "cancel", "stop"] = ""
        self._made: dict[str, float] = {}

    def listen(self) -> None:
        """Take orders from standard input until it ends, and then end with it."""
        for line in sys.stdin:
            self.order = "cancel" if line.strip() == "cancel" else "stop"
        os._exit(1)

    def told_to_end(self) -> bool:
        return self.order != ""

    def inputs(self, name: str) -> list[Path]:
        """The files that were sent as `name`, in their order."""
        return [self.folder / "inputs" / key.rsplit("/", 1)[1] for key in self.job.inputs.get(name, [])]

    def due(self, what: str, every: float) -> bool:
        """Whether it is time for another preview, or plot; the first is due at once."""
        now = time.monotonic()
        due = now - self._made.get(what, -every) >= every
        if due:
            self._made[what] = now
        return due

    def tell(self, message: Message) -> None:
        self.news.write(message.model_dump_json(exclude_defaults=True) + "\n")
        self.news.flush()


def main() -> None:
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
        from worker.gatys_job import paint

        return paint
    from worker.train_job import train

    return train


@contextmanager
def one_of_the_devices(settings: Settings) -> Iterator[str]:
    """A device that no other job of this machine works on, as torch names it; waits for a GPU to become free.

    On the CPU there is nothing to wait for: whoever runs several jobs there wants them to share it.
    """
    import torch

    from core.engine import find_device

    if find_device(settings.device) != "cuda":
        yield "cpu"
        return
    settings.work.mkdir(parents=True, exist_ok=True)
    for number in itertools.cycle(range(torch.cuda.device_count())):
        with (settings.work / f"cuda-{number}.lock").open("w") as lock, suppress(BlockingIOError):
            flock(lock, LOCK_EX | LOCK_NB)
            yield f"cuda:{number}"
            return
        time.sleep(0.5)


if __name__ == "__main__":
    main()
