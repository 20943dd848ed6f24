"""`impasto serve`: run the API and a supervisor of jobs, and print the address."""

import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

import click

from impasto.core.device import find_device
from impasto.core.errors import Unavailable
from impasto.core.logs import log_json
from impasto.core.pictures.confine import hide_memory
from impasto.core.settings import Settings
from impasto.options import given, read_settings

log = logging.getLogger("impasto")

STOPPING = 30.0
"""Seconds that the supervisor has to save running jobs."""


@click.command()
@click.option("--host", help="Address to listen on.  [default: IMPASTO_HOST or 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: IMPASTO_PORT or 8000]")
def serve(**flags: Any) -> None:
    """Start the service."""
    run(read_settings(**given(flags)))


def run(settings: Settings) -> None:
    """Serve until stopped. Raises Unavailable where the port is taken, or the GPU is not there."""
    import uvicorn

    from impasto.api.main import create_app
    from impasto.api.server import bound, protocol

    hide_memory()
    find_device(settings.device)  # fails before anything is started
    listener = _listen(settings)
    bound(listener)
    _allow_files()
    app = create_app(settings)
    log_json(settings.log)
    for name in ("uvicorn.error", "python_multipart"):  # they warn of what clients send
        logging.getLogger(name).setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        http=protocol(settings, app.state.metrics.refused),
        ws="none",
        log_config=None,  # ours is set up already
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.forwarded),
        forwarded_allow_ips=settings.listed("forwarded"),
        timeout_graceful_shutdown=settings.grace,
    )
    port = listener.getsockname()[1]
    place = f"{_shown(settings.host)}:{port}"
    threading.Thread(target=_announce, args=(app.state, place, bool(settings.keys)), daemon=True).start()
    supervisor = Supervisor() if settings.jobs and not settings.broker else None

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.state.stopping.set()
            if supervisor:
                supervisor.tell()  # now: it saves while open requests are answered
            super().handle_exit(sig, frame)

    # uvicorn raises the signal again at its end, which by default would end this process at once. In a container the
    # supervisor would end with it, before it has saved.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        Server(config).run(sockets=[listener])
    finally:
        if supervisor:
            supervisor.close()
        services = [getattr(app.state, name, None) for name in ("studio", "submissions")]  # none where it did not open
        if any(service and service.busy for service in services):  # it has had its time, and a thread cannot be ended
            os._exit(0)


class Supervisor(threading.Thread):
    """Runs `impasto.worker.embedded` in a process of its own, and starts it again whenever it ends.

    It ends when its standard input does: with this process, even one that is killed.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._closing = threading.Event()
        self._process = self._begin()
        self.start()

    def tell(self) -> None:
        """Tell it to save running jobs and end."""
        self._closing.set()
        assert self._process.stdin
        self._process.stdin.close()

    def close(self) -> None:
        """Tell it, and wait until it has ended."""
        self.tell()
        self.join(STOPPING)
        self._process.kill()

    def run(self) -> None:
        while True:
            self._process.wait()
            if self._closing.wait(1):
                return
            log.warning("The supervisor of jobs ended. It is started again.")
            self._process = self._begin()
            if self._closing.is_set():
                self.tell()

    def _begin(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-m", "impasto.worker.embedded"], stdin=subprocess.PIPE)


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise Unavailable(
            f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}). "
            "Stop the program that uses the port, or choose another: impasto serve --port 8001, or IMPASTO_PORT=8001."
        ) from error


def _allow_files() -> None:
    """Raise the limit of open files to the system's: each connection is one, and each file that it sends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS has a lower limit than it reports
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _announce(state: Any, place: str, keys: bool) -> None:
    """Print the address of the service as soon as it can paint."""
    click.echo("Impasto is loading its first model. The first start converts it, which takes some seconds.")
    while getattr(state, "studio", None) is None or state.studio.state == "loading":
        time.sleep(0.05)
    if state.studio.state != "ready":
        click.secho(f"Impasto cannot paint: {state.studio.state}", fg="red", err=True)
        return
    curl = 'curl -H "Authorization: Bearer $IMPASTO_KEY"' if keys else "curl"
    click.echo(
        f"\nImpasto is ready. Point the browser to http://{place}/ or paste this, for the cat or your photograph:\n\n"
        f"    {curl} -F image=@docs/cat.jpg '{place}/stylize?arch=aonet&style=wave&dataset=coco' -o painted.png\n\n"
        "Slower and better, by optimising the pixels:\n\n"
        f"    {curl} -F kind=gatys -F image=@docs/cat.jpg -F style=wave {place}/jobs\n\n"
        "Stop it with Ctrl-C."
    )


def _shown(host: str) -> str:
    """The host, as typed into a browser."""
    return "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else host
