"""The limit on a request's body, kept while it is read.

Starlette's own answers in plain text while the client still sends, which may then see a broken connection instead.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import answer
from core.errors import TooLarge

DRAIN = 4  # times the limit that is still read, and thrown away, so that the client hears the answer


class BodyLimit:
    """ASGI middleware: a body over `max_bytes` is answered with 413, whether or not its length was declared."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self.max_bytes:
            waits = headers.get(b"expect", b"").lower() == b"100-continue"  # for our word, before it sends anything
            await self._drain(receive, 0, more=not waits)
            await answer(self._error(int(declared)))(scope, receive, send)
            return
        read, more = 0, True

        async def counted() -> Message:
            nonlocal read, more
            message = await receive()
            read += len(message.get("body", b""))
            more = message.get("more_body", False)
            if read > self.max_bytes:
                raise _Over
            return message

        try:
            await self.app(scope, counted, send)
        except _Over:
            await self._drain(receive, read, more)
            await answer(self._error(read))(scope, receive, send)

    async def _drain(self, receive: Receive, read: int, more: bool) -> None:
        """Read on and throw away: a client that is cut off while it sends may never read our answer."""
        while more and read <= DRAIN * self.max_bytes:
            message = await receive()
            read += len(message.get("body", b""))
            more = message.get("more_body", False)

    def _error(self, size: int) -> TooLarge:
        return TooLarge(
            f"The request has {size:,} bytes or more; the limit is {self.max_bytes:,}. "
            "Scale the picture down, or save it as JPEG.",
            limit=self.max_bytes,
            actual=size,
        )


class _Over(BaseException):
    """Not an Exception: whoever parses the body between here and there would answer it in our place."""
