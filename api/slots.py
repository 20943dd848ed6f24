"""Work on pixels: off the event loop, a few at a time, the others in a queue with an end."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from math import ceil
from typing import TypeVar

from core.errors import Busy

T = TypeVar("T")


class Slots:
    """At most `slots` calls run at once and at most `queue` wait; one more is told to come back."""

    def __init__(self, slots: int, queue: int) -> None:
        self.slots, self.queue = slots, queue
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="slot")
        self._lock = threading.Lock()
        self._taken = 0
        self._seconds = 1.0  # of one call, a moving average

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work()`. Raises Busy, with `retry_after` in seconds, when all places are taken."""
        with self._lock:
            if self._taken >= self.slots + self.queue:
                seconds = ceil(self._taken * self._seconds / self.slots)
                raise Busy(
                    f"{self._taken} pictures are being painted or wait: try again in {seconds} s.", retry_after=seconds
                )
            self._taken += 1
        future = self._threads.submit(copy_context().run, self._timed, work)  # with the request's id, for the log
        # Of the thread's future, not the caller's wait: who hangs up leaves a thread that still works.
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    @property
    def taken(self) -> int:
        """Calls that run or wait."""
        return self._taken

    def close(self) -> None:
        """Let what runs end and forget what waits."""
        self._threads.shutdown(cancel_futures=True)

    def _timed(self, work: Callable[[], T]) -> T:
        begun = time.monotonic()
        try:
            return work()
        finally:
            self._seconds += 0.1 * (time.monotonic() - begun - self._seconds)

    def _leave(self, _: "Future[T]") -> None:
        with self._lock:
            self._taken -= 1
