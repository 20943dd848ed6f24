"""The messages between a job's child process and its parent, and how the work in the child sends them.

The parent writes a `Spec` to `spec.json` in the child's folder. The child writes its files beside it and sends a
`Message` a line on standard output. On standard input it reads the orders `cancel` (give back the best so far) and
`stop` (save, and go on another time).
"""

import os
import sys
import time
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel

from impasto.core.jobs.record import Failure, Job, Progress
from impasto.core.settings import Settings

PREVIEW_EVERY = 4.0
PLOT_EVERY = 30.0
"""Seconds between two of them, at least."""

Ending = Literal["succeeded", "failed", "canceled", "stopped"]


class Spec(BaseModel):
    """A child's task: the job, and the settings of the process that started it."""

    job: Job
    settings: Settings


class Message(BaseModel):
    """News of a child: its progress, the files that it has written since the last news, by their use, and its end."""

    progress: Progress | None = None
    files: dict[str, str] = {}
    ending: Ending | None = None
    error: Failure | None = None


class Desk:
    """The work's side of the protocol: its folder, the order that has come, a way to send news."""

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
