"""Receivers of webhooks on loopback: a good one, and those that answer in ways of their own."""

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from impasto.core.jobs.record import Job
from impasto.core.jobs.transitions import Jobs

WORKER = """
import sys
from impasto.core.jobs.open import open_store
from impasto.core.jobs.transitions import Jobs
from impasto.core.settings import Settings
from impasto.worker.jobs.webhooks import WebhookCaller

caller = WebhookCaller(Jobs(open_store(sys.argv[1])), Settings(webhook_secret=sys.argv[2], webhook_private=True))
caller.look()
caller.wait()
"""
"""A worker that makes one look. Arguments: the store, and the secret."""


class Receiver(ThreadingHTTPServer):
    """Keeps the calls that it gets. Answers with `statuses`, one each, then 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls: list[tuple[str, dict[str, str], bytes]] = []  # (path, headers, body)
        self.statuses: list[int] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}/hook?token=1"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class RawReceiver:
    """Answers each call by `answer(connection, closing)`, in a thread of its own. `closing` is set at the end."""

    def __init__(self, answer: Callable[[socket.socket, threading.Event], None]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self.called = threading.Event()
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def __enter__(self) -> "RawReceiver":
        self._threads[0].start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # ends `accept`
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                self.called.set()
                self._answer(connection, self.closing)
            except OSError:
                """The caller has hung up."""


def silent(connection: socket.socket, closing: threading.Event) -> None:
    """Say nothing until the caller hangs up, or the test is over."""
    connection.settimeout(0.05)
    while not closing.is_set():
        try:
            if not connection.recv(65536):
                return
        except TimeoutError:
            continue


def drip(connection: socket.socket, closing: threading.Event) -> None:
    """An answer that goes on and on: its header, a byte every now and then."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Header: ")
    while not closing.wait(0.02):
        connection.sendall(b"x")


def over(jobs: Jobs, url: str, **fields: object) -> Job:
    """A job that is over, whose webhook is due."""
    job = Job(**{"kind": "gatys", "params": {}, "webhook": url, **fields})  # type: ignore[arg-type]
    return jobs.cancel(jobs.submit(job).id)
