"""The limit on a request's body, kept while it is read.

Starlette's own limit answers in plain text while the client still sends, which may see a broken connection instead.
"""

from collections import Counter
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from impasto.api.errors import answer
from impasto.core.errors import Busy, ImpastoError, TooLarge

DRAIN = 4
"""Times the limit that is still read and thrown away, so that the client hears the answer."""


class BodyLimit:
    """ASGI middleware. A body over `max_bytes`, or over the limit of a path in `larger`, is answered with 413, whether
    or not its length was declared. All bodies under way have `together` bytes, those of one client a quarter or one
    body: a body that finds no room is answered with 503. So is the request of a client that has `requests` under way:
    behind a proxy the server cannot count a client's connections."""

    def __init__(self, app: ASGIApp, max_bytes: int, larger: Mapping[str, int], together: int, requests: int) -> None:
        self.app, self.max_bytes, self.larger, self.together = app, max_bytes, larger, together
        self.requests = requests
        self._under_way = Counter[str]()  # requests of each client; changed on the event loop alone
        self._held = Counter[str]()  # bytes of each client; likewise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = scope["state"]["caller"].client
        if client and self._under_way[client] >= self.requests:  # questions about health have none
            message = f"{self.requests} requests from you are under way. Wait for some to end, or try again in 10 s."
            refusal = answer(Busy(message, retry_after=10))
            refusal.headers["Connection"] = "close"  # else the rest of the body holds it
            await refusal(scope, receive, send)
            return
        self._under_way[client] += 1
        try:
            await self._limited(scope, receive, send, client)
        finally:
            _subtract(self._under_way, client, 1)

    async def _limited(self, scope: Scope, receive: Receive, send: Send, client: str) -> None:
        limit = self.larger.get(scope["path"], self.max_bytes)
        own = max(limit, self.together // 4)
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            waits = headers.get(b"expect", b"").lower() == b"100-continue"  # for our word, before it sends anything
            await _drain(receive, 0, limit, more=not waits)
            await answer(_error(int(declared), limit))(scope, receive, send)
            return
        read, more = 0, True

        async def counted() -> Message:
            nonlocal read, more
            message = await receive()
            size = len(message.get("body", b""))
            read += size
            self._held[client] += size
            more = message.get("more_body", False)
            if read > limit:
                raise _Over(_error(read, limit))
            if self._held[client] > own or self._held.total() > self.together:
                raise _Over(Busy("Too much is being sent just now: try again in 10 s.", retry_after=10))
            return message

        try:
            try:
                await self.app(scope, counted, send)
            finally:
                _subtract(self._held, client, read)
        except _Over as over:
            await _drain(receive, read, limit, more)
            await answer(over.error)(scope, receive, send)


def _subtract(counts: Counter[str], client: str, number: int) -> None:
    counts[client] -= number
    if not counts[client]:
        del counts[client]


async def _drain(receive: Receive, read: int, limit: int, more: bool) -> None:
    """Read on and throw away: a client that is cut off while it sends may never read the answer."""
    while more and read <= DRAIN * limit:
        message = await receive()
        read += len(message.get("body", b""))
        more = message.get("more_body", False)


def _error(size: int, limit: int) -> TooLarge:
    return TooLarge(
        f"The request has at least {size:,} bytes; the limit is {limit:,}. Scale the picture down, or save it as JPEG.",
        limit=limit,
        actual=size,
    )


class _Over(BaseException):
    """Not an Exception, which whoever parses the body would answer in our place."""

    def __init__(self, error: ImpastoError) -> None:
        self.error = error
