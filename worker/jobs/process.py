"""The child process of a job, as its parent sees it."""

import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from impasto.worker.jobs.protocol import Message


class Child:
    """`worker.jobs.child` at work in a folder. At the end of a `with` block it is killed and waited for."""

    def __init__(self, folder: Path) -> None:
        self.ordered = ""
        self._deadline = float("inf")
        self._messages: queue.Queue[Message] = queue.Queue()
        # A session of its own: Ctrl-C in a terminal is for the worker, which then tells the child to save.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "impasto.worker.jobs.child", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout
        self._stdin = self._process.stdin
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        with suppress(OSError):
            self._stdin.close()

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    @property
    def gone(self) -> bool:
        """Whether it has ended and all its messages have been read."""
        return not self._reader.is_alive() and self._messages.empty() and self._process.poll() is not None

    def message(self, timeout: float) -> Message | None:
        """Return the next message, or None after `timeout` seconds."""
        try:
            return self._messages.get(timeout=timeout)
        except queue.Empty:
            return None

    def order(self, word: str, grace: float) -> None:
        """Send the order once. Kill the child if it is still there `grace` seconds later."""
        if not self.ordered:
            self.ordered, self._deadline = word, time.monotonic() + grace
            with suppress(OSError):  # it has just ended
                self._stdin.write(word.encode() + b"\n")
                self._stdin.flush()
        elif time.monotonic() > self._deadline:
            self._process.kill()

    def _read(self, stdout: IO[bytes]) -> None:
        with stdout:
            for line in stdout:
                self._messages.put(Message.model_validate_json(line))
