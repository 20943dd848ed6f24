"""Work on pixels: off the event loop, a few at a time, the others in a queue with an end."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from math import ceil
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from impasto.core.errors import Busy

T = TypeVar("T")


class Slots:
    """At most `slots` calls run at once and at most `queue` wait; one more is told to come back."""

    def __init__(self, slots: int, queue: int) -> None:
        self.slots, self.queue = slots, queue
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="slot")
        self._lock = threading.Lock()
        self._taken = 0
        self._seconds = 1.0  # of one call, a moving average

    async def run(self, work: Callable[[], T], request: Request) -> T:
        """The result of `work()`, for a request whose body has been read. Raises Busy, with `retry_after` in seconds,
        when all places are taken; ClientDisconnect where the client has left before its turn came, and its place is
        another's then."""
        with self._lock:
            if self._taken >= self.slots + self.queue:
                seconds = ceil(self._taken * self._seconds / self.slots)
                raise Busy(
                    f"{self._taken} pictures are being painted or wait: try again in {seconds} s.", retry_after=seconds
                )
            self._taken += 1
        future = self._threads.submit(copy_context().run, self._timed, work)  # with the request's id, for the log
        # Of the thread's future, not the caller's wait: who leaves while it works leaves a thread that still does.
        future.add_done_callback(self._leave)
        done, leaving = asyncio.wrap_future(future), asyncio.create_task(_left(request))
        done.add_done_callback(lambda done: done.cancelled() or done.exception())  # else logged where nobody waits
        try:
            await asyncio.wait((done, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not done.done() and future.cancel():
                raise ClientDisconnect
            return await done
        finally:
            leaving.cancel()

    @property
    def taken(self) -> int:
        """Calls that run or wait."""
        return self._taken

    def close(self) -> None:
        """Forget what waits; nothing more is begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _timed(self, work: Callable[[], T]) -> T:
        begun = time.monotonic()
        try:
            return work()
        finally:
            self._seconds += 0.1 * (time.monotonic() - begun - self._seconds)

    def _leave(self, _: "Future[T]") -> None:
        with self._lock:
            self._taken -= 1


async def _left(request: Request) -> None:
    """Returns when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
