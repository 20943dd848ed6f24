"""Connections in bounds, with no proxy before the service: slow and large requests are dropped, and too many.

uvicorn has a time limit for idle connections alone: one byte an hour would hold a connection, and a file descriptor,
for as long as its sender likes.
"""

import asyncio
import json
import logging
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus

from uvicorn.middleware.proxy_headers import _TrustedHosts
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from impasto.api.middleware.access import network
from impasto.core.settings import Settings

AHEAD = 65_536
"""Bytes of an answer that the kernel takes before it can send them. If it took more, our own buffer would stand still
for long while a slow reader reads."""

READING = 3
"""Times `patience` that an answer may make no progress: the kernel takes it from us in blocks of `AHEAD` or so."""

MAX_HEADER = 16_384
"""Bytes of a request's header."""

NAMES = {400: "bad_request", 408: "timeout", 431: "header_too_large", 503: "busy"}

log = logging.getLogger("impasto.requests")


def bound(listener: socket.socket) -> None:
    """Have the kernel take no more than `AHEAD` bytes ahead of what the connections of a listener can send."""
    with suppress(AttributeError, OSError):  # not on every system
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, AHEAD)


def protocol(settings: Settings, on_refusal: Callable[[int], None]) -> type[asyncio.Protocol]:
    """Return the class that uvicorn takes as `http=`, with the limits of these settings. `on_refusal` is called with
    the status of each answer that the class gives by itself: the application never hears of those."""
    limits = {
        "patience": settings.patience,
        "max_header": MAX_HEADER,
        "max_connections": settings.connections,
        "max_unread": settings.max_held,
        "on_refusal": staticmethod(on_refusal),
        "max_of_one": settings.connections_of_one,
        "proxies": _TrustedHosts(settings.listed("forwarded")),  # as uvicorn reads the same setting: networks, too
    }
    return type("BoundedHttp", (BoundedHttp,), limits)


class BoundedHttp(HttpToolsProtocol):
    """A connection. Its header must be there within `patience` seconds and `max_header` bytes. A body may make no
    progress for `patience` seconds, an answer for `READING` times as long. No time counts while the
    service itself works. One client has a quarter of all connections, and of the bytes that wait to be read on them."""

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
    _idle = 0  # bytes since a header began, or since the last of a body: chunk extensions, trailers

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
        if self._in_header and not self._reading:
            self._await_header()
        elif not self._in_header:
            self._await_body()
        self._idle += len(data)
        super().data_received(data)
        if self._idle > self.max_header:
            self._refuse_header()

    def on_headers_complete(self) -> None:
        self._in_header, self._idle = False, 0
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
        self._in_header, self._idle = True, 0
        if not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._running = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        own = [other for other in self._connections() if other.whose == self.whose] if self.whose else []
        if _unread(self._connections()) > self.max_unread or _unread(own) > self.max_unread // 4:
            self.transport.abort()  # others do not read theirs: there is no memory for one more
        else:
            self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing:
            self._writing.cancel()
            self._writing = None

    def _connections(self) -> Iterator["BoundedHttp"]:
        return (other for other in self.connections if isinstance(other, BoundedHttp))

    def _of_one(self) -> int:
        """Connections of this client."""
        return sum(other.whose == self.whose for other in self._connections())

    def _await_header(self) -> None:
        self._stop_reading()
        self._reading = self.loop.call_later(self.patience, self._header_is_late)

    def _header_is_late(self) -> None:
        if self.cycle and not self.cycle.response_complete:  # of a request behind one that we are still at
            self._await_header()
        elif not self._idle:  # a browser opens connections ahead
            self.transport.close()
        else:
            self._refuse(408, f"The request's header was not there within {self.patience:g} s.")

    def _await_body(self) -> None:
        self._stop_reading()
        self._reading = self.loop.call_later(self.patience, self._body_is_late)

    def _body_is_late(self) -> None:
        if self.flow.read_paused:  # it is we who are slow
            self._await_body()
        else:
            self._refuse(408, f"Nothing of the request's body came for {self.patience:g} s.")

    def _await_reader(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._writing = self.loop.call_later(READING * self.patience, self._look_at_reader, unread)

    def _look_at_reader(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._await_reader()
        else:
            self.transport.abort()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading.cancel()
            self._reading = None

    def send_400_response(self, msg: str) -> None:
        """Answer in JSON to what is not HTTP; uvicorn's own answer is plain text."""
        self._refuse(400, "This is not HTTP/1.1. In a URL, write all but ASCII as percent codes, such as %C3%A4.")

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


def _unread(connections: Iterable[BoundedHttp]) -> int:
    """Bytes of answers that wait for their readers."""
    return sum(connection.transport.get_write_buffer_size() for connection in connections)
