"""The messages between a job's child process and its parent.

The parent writes a `Spec` to `spec.json` in the child's folder. The child writes its files beside it and sends one
`Message` a line on standard output. On standard input it reads the orders `cancel` (give back the best so far) and
`stop` (save, to go on another time).
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
"""Least seconds between two previews, and between two plots."""

Ending = Literal["succeeded", "failed", "canceled", "stopped"]


class Spec(BaseModel):
    """A child's task: the job, and the settings of the process that started it."""

    job: Job
    settings: Settings


class Message(BaseModel):
    """A child's progress, the files that it has written since its last message, by their use, and its end."""

    progress: Progress | None = None
    files: dict[str, str] = {}
    ending: Ending | None = None
    error: Failure | None = None


class Context:
    """The child's side of the protocol: the job and its folder, the order that has come, and a way to send messages."""

    def __init__(self, folder: Path, spec: Spec, news: IO[str]) -> None:
        self.folder, self.job, self.settings, self.news = folder, spec.job, spec.settings, news
        self.order: Literal["", "cancel", "stop"] = ""
        self._made: dict[str, float] = {}

    def listen(self) -> None:
        """Take orders from standard input. When that ends, the parent is dead, and this process ends."""
        for line in sys.stdin:
            self.order = "cancel" if line.strip() == "cancel" else "stop"
        os._exit(1)

    def told_to_end(self) -> bool:
        return self.order != ""

    def inputs(self, name: str) -> list[Path]:
        """The files that were sent as `name`, in their order."""
        return [self.folder / "inputs" / key.rsplit("/", 1)[1] for key in self.job.inputs.get(name, [])]

    def due(self, what: str, every: float) -> bool:
        """Whether `every` seconds have passed since the last `what`, a preview or a plot. The first is due at once."""
        now = time.monotonic()
        due = now - self._made.get(what, -every) >= every
        if due:
            self._made[what] = now
        return due

    def tell(self, message: Message) -> None:
        self.news.write(message.model_dump_json(exclude_defaults=True) + "\n")
        self.news.flush()
