"""Work on pixels: off the event loop, a few calls at a time, shared out by client. Others wait in a bounded queue."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from math import ceil
from time import monotonic
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from impasto.core.errors import Busy, Stopping

T = TypeVar("T")


class Slots:
    """Runs at most `slots` calls at once, of one client at most all but one of them.

    At most `queue` calls wait, and clients take turns. In a full queue the newest call of the client that has most
    there gives way to one whose client has less. Is used on the event loop alone, and so needs no lock.
    """

    def __init__(self, slots: int, queue: int) -> None:
        self.slots, self.queue = slots, queue
        self.most_of_one = max(1, slots - 1)
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="slot")
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # by client: the next in front
        self._seconds = 1.0  # of one call, a moving average

    async def run(self, work: Callable[[], T], request: Request, client: str = "") -> T:
        """Return `work()`, for a request whose body has been read.

        Raises Busy, with `retry_after` in seconds, where there is no place; ClientDisconnect where the client has left
        before its turn; Stopping after `close`.
        """
        await self._turn(request, client)
        loop = asyncio.get_running_loop()
        try:
            future = self._threads.submit(copy_context().run, self._timed, work)  # with the request's id, for the log
        except RuntimeError as error:  # the threads are shut down
            self._end(client)
            raise Stopping from error
        # The slot is free when the thread is, not when the caller has left: a thread cannot be ended.
        future.add_done_callback(lambda _: self._end_soon(loop, client))
        done = asyncio.wrap_future(future)
        done.add_done_callback(lambda done: done.cancelled() or done.exception())  # else logged where nobody waits
        return await done

    @property
    def running(self) -> int:
        return self._running.total()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def taken(self) -> int:
        """Calls that run or wait."""
        return self.running + self.waiting

    def close(self) -> None:
        """Forget what waits; nothing more is begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, request: Request, client: str) -> None:
        """Wait until the client may run a call, which counts as running from then on."""
        if self._may_start(client):
            self._running[client] += 1
            return
        if self.waiting >= self.queue:
            self._make_place(client)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        leaving = asyncio.create_task(_left(request))
        try:
            await asyncio.wait((turn, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                raise ClientDisconnect
            turn.result()
        except BaseException:
            if turn.done() and not turn.exception():
                self._end(client)  # its turn had come, and nobody is there
            else:
                self._forget(client, turn)
            raise
        finally:
            leaving.cancel()

    def _may_start(self, client: str) -> bool:
        return self.running < self.slots and self._running[client] < self.most_of_one

    def _make_place(self, client: str) -> None:
        """Turn away the newest call of the client with most in the queue. Raises Busy where that is this one."""
        seconds = ceil((self.taken + 1) * self._seconds / self.slots)
        busy = Busy(f"{self.taken} pictures are being painted or wait: try again in {seconds} s.", retry_after=seconds)
        own = len(self._waiting.get(client, ()))
        greediest = max(self._waiting, key=lambda other: len(self._waiting[other]), default=client)
        if len(self._waiting.get(greediest, ())) <= own + 1:
            raise busy
        turn = self._waiting[greediest][-1]
        self._forget(greediest, turn)
        turn.set_exception(busy)

    def _forget(self, client: str, turn: asyncio.Future[None]) -> None:
        calls = self._waiting.get(client, deque())
        with suppress(ValueError):
            calls.remove(turn)
        if not calls:
            self._waiting.pop(client, None)

    def _end_soon(self, loop: asyncio.AbstractEventLoop, client: str) -> None:
        """Called in the thread that has done the work."""
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(self._end, client)

    def _end(self, client: str) -> None:
        """A call is over: the next ones begin."""
        self._running[client] -= 1
        self._running += Counter()  # without those at nothing
        while starting := next(filter(self._may_start, self._waiting), None):
            calls = self._waiting[starting]
            turn = calls.popleft()
            self._waiting.move_to_end(starting)
            if not calls:
                del self._waiting[starting]
            self._running[starting] += 1
            turn.set_result(None)

    def _timed(self, work: Callable[[], T]) -> T:
        begun = monotonic()
        try:
            return work()
        finally:
            self._seconds += 0.1 * (monotonic() - begun - self._seconds)


async def _left(request: Request) -> None:
    """Return when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
