"""Connections, kept in bounds by the server itself: what is slow or too large is dropped, with no proxy before it.

uvicorn has no time limit but on idle connections: one byte an hour would hold a connection, and a file descriptor, for
as long as its sender likes.
"""

import asyncio
import json
import logging
import secrets
import sys
from collections.abc import Callable
from fcntl import ioctl
from http import HTTPStatus
from termios import TIOCOUTQ

from uvicorn.middleware.proxy_headers import _TrustedHosts
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from impasto.api.middleware.access import network
from impasto.core.settings import Settings

LEAST = 10_000
"""Bytes that must move within `patience` seconds while a body comes in or an answer goes out."""

STEADY = 20_000
"""Bytes of a body for which there is a second, as `LEAST` alone would let 16 MB take four hours. A slow mobile uplink
does 50,000, and may rest for more than half of the time."""

SPAN = 3
"""Times `patience` that a pace is judged over. A body may be that far behind: small pictures come on worse lines, and
lines stall. And a reader's kernel tells of what it has taken in blocks of 64 KB or more, which may take that long."""

MAX_HEADER = 16_384
"""Bytes of a request's header."""

NAMES = {400: "bad_request", 408: "timeout", 431: "header_too_large", 503: "busy"}


log = logging.getLogger("impasto.requests")


def protocol(settings: Settings, on_refusal: Callable[[int], None]) -> type[asyncio.Protocol]:
    """The class that uvicorn takes as `http=`, with the limits of these settings. `on_refusal` is told the status of
    each answer that it gives itself, which the application never hears of."""
    limits = {
        "patience": settings.patience,
        "max_header": MAX_HEADER,
        "max_connections": settings.connections,
        "max_unread": settings.max_held,
        "on_refusal": staticmethod(on_refusal),
        "max_of_one": max(8, settings.connections // 4),  # a browser opens six or more
        "proxies": _TrustedHosts(settings.listed("forwarded")),  # as uvicorn reads the same setting: networks, too
    }
    return type("BoundedHttp", (BoundedHttp,), limits)


class BoundedHttp(HttpToolsProtocol):
    """A connection. Its header must be there within `patience` seconds and `max_header` bytes; then whichever way bytes
    go, `LEAST` of them must move in every `patience` seconds, and a body at a `STEADY` pace on the whole. While the
    service itself works nothing is counted. One client has a part of all connections."""

    patience: float
    max_header: int
    max_connections: int
    max_of_one: int
    max_unread: int
    on_refusal: Callable[[int], None]
    proxies: _TrustedHosts

    whose = ""  # the client's network; none for a proxy, which has the connections of many
    _reading: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None
    _running: RequestResponseCycle | None = None  # of those that came in one after the other, the one at work
    _in_header = True
    _read = 0  # bytes since the last look, or since the header began
    _behind = 0.0  # seconds that a body has taken over what its bytes so far may
    _idle = 0  # bytes of a body in which there was nothing: chunk extensions, trailers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # whatever the kernel does not take calls pause_writing
        if self.client and self.client[0] not in self.proxies:
            self.whose = network(self.client[0])
        if len(self.connections) > self.max_connections:
            self._refuse(503, f"{self.max_connections} connections are open. Try again in a moment.")
        elif self.whose and self._of_one() > self.max_of_one:
            self._refuse(503, f"{self.max_of_one} connections from you are open. Close some, or try again in a moment.")
        else:
            self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._running and not self._running.response_complete:  # uvicorn tells only the one that came last
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)
        for timer in (self._reading, self._writing):
            if timer:
                timer.cancel()
        self._reading = self._writing = None

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._read += len(data)
        self._idle += 0 if self._in_header else len(data)
        if self._in_header and not self._reading:
            self._await_header()
        super().data_received(data)
        if max(self._read if self._in_header else 0, self._idle) > self.max_header:
            self._refuse_header()

    def on_headers_complete(self) -> None:
        self._in_header, self._idle, self._behind = False, 0, 0.0
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self.max_header:
            self._refuse_header()  # all of it came in one piece
        else:
            self._await_body()
            super().on_headers_complete()
            if not self.pipeline:
                self._running = self.cycle

    def on_body(self, body: bytes) -> None:
        self._idle = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_reading()
        self._in_header, self._read, self._idle = True, 0, 0
        if not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._running = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if sum(other.transport.get_write_buffer_size() for other in self.connections) > self.max_unread:
            self.transport.abort()  # others do not read theirs: there is no memory for one more
        else:
            self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing:
            self._writing.cancel()
            self._writing = None

    def _of_one(self) -> int:
        """Connections of this client."""
        return sum(isinstance(other, BoundedHttp) and other.whose == self.whose for other in self.connections)

    def _await_header(self) -> None:
        self._stop_reading()
        self._reading = self.loop.call_later(self.patience, self._header_is_late)

    def _header_is_late(self) -> None:
        if self.cycle and not self.cycle.response_complete:  # of a request behind one that we are still at
            self._await_header()
        elif not self._read:  # a browser opens connections ahead
            self.transport.close()
        else:
            self._refuse(408, f"The request's header was not there within {self.patience:g} s.")

    def _await_body(self) -> None:
        self._stop_reading()
        self._read = 0
        self._reading = self.loop.call_later(self.patience, self._look_at_body)

    def _look_at_body(self) -> None:
        if self.flow.read_paused:  # it is we who are slow
            self._await_body()
            return
        self._behind += self.patience - self._read / STEADY
        if self._read < LEAST:
            self._refuse(408, f"Of the request's body less than {LEAST:,} bytes came in {self.patience:g} s.")
        elif self._behind > SPAN * self.patience:
            self._refuse(408, f"The request's body takes too long: {STEADY:,} bytes must come a second, on the whole.")
        else:
            self._await_body()

    def _await_reader(self) -> None:
        self._writing = self.loop.call_later(SPAN * self.patience, self._look_at_reader, self._unread())

    def _look_at_reader(self, before: int) -> None:
        if before - self._unread() >= SPAN * LEAST:
            self._await_reader()
        else:
            self.transport.abort()

    def _unread(self) -> int:
        """Bytes of answers that have not arrived at the other side. Our own buffer alone shows no progress for long:
        the kernel has up to 4 MB more, and takes the next from us in large blocks."""
        ours = self.transport.get_write_buffer_size()
        if sys.platform != "linux":  # where that call means something else, if anything
            return ours
        queued = ioctl(self.transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4))
        return ours + int.from_bytes(queued, sys.byteorder)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading.cancel()
            self._reading = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in JSON; uvicorn's own answer is plain text."""
        self._refuse(400, "This is no HTTP/1.1 that is understood here. In a URL all but ASCII is written as %C3%A4.")

    def _refuse_header(self) -> None:
        self._refuse(431, f"The request's header has more than {self.max_header:,} bytes.")

    def _refuse(self, status: int, detail: str) -> None:
        """Say why, where nothing has been said yet, and close; at once where nobody reads."""
        self._stop_reading()
        answering = self._running is not None and self._running.response_started
        if self.transport.is_closing():
            return
        if answering or self.transport.get_write_buffer_size():
            self.transport.abort()
            return
        busy = status == 503
        body = json.dumps({"error": NAMES[status], "detail": detail} | ({"retry_after": 1} if busy else {}))
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        head += "Retry-After: 1\r\n" if busy else ""
        head += f"X-Request-ID: {(id := secrets.token_hex(8))}\r\n"
        self.on_refusal(status)
        facts = {"request": id, "status": status, "client": self.client[0] if self.client else None}
        log.info("refused", extra={"facts": facts})
        self.transport.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        self.transport.close()
