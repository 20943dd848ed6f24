"""The fork server of the sandbox, from the service's side: a small process that has loaded the decoders and forks.

Forking takes milliseconds; starting Python and its decoders takes far longer. Its own side, and that of the children,
is `core.pictures.sandbox_child`.
"""

import atexit
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from impasto.core.errors import Unavailable
from impasto.core.pictures.sandbox_child import receive

log = logging.getLogger("impasto")

DECODER = (sys.executable, "-m", "impasto.core.pictures.sandbox_child")
"""The command of the fork server."""
HOME = Path(__file__).parents[3]
"""The folder of the package `impasto`, from which `-m` finds it however it was imported here."""
INHERITED = (
    *("PATH", "HOME", "TMPDIR", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV"),
    *("PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"),
)
"""Variables that a Python process needs of the environment, with LC_*. Passwords and keys are among the others."""

ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # a thread in the fork server would be missing in its children
    "MALLOC_ARENA_MAX": "1",  # each reserves 64 MB, which would count against a child's limit
}


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in INHERITED or name.startswith("LC_")}


class Child(NamedTuple):
    """The socket to a child, the file descriptor of its process, and the socket of its fork server, for `lost`."""

    socket: socket.socket
    process: int
    server: socket.socket

    def end(self) -> None:
        """Kill it."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, signal.SIGKILL)
        os.close(self.process)
        self.socket.close()


class ForkServer:
    """One process that forks children: started when it is first needed, and again when it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._missing: list[str] = []

    def fork(self, message: bytes = b"", files: Sequence[int] = ()) -> Child:
        """Give a message with file descriptors to a child that has had none. Raises Unavailable."""
        for _ in range(3):
            child = self._next()
            if not child:
                continue
            with suppress(OSError):  # it may have died while it waited
                if greeting := receive(child.socket)[0]:
                    self._warn(json.loads(greeting))
                    socket.send_fds(child.socket, [message], files)
                    return child
            child.end()
        raise Unavailable("The process that decodes pictures does not start.", retry_after=10)

    def _next(self) -> Child | None:
        """The child that was forked ahead; None where there is none, or no fork server any more."""
        with self._lock:
            if not self._process:
                self._start()
            message, files = b"", list[int]()
            with suppress(OSError):
                self._socket.send(b"fork")
                message, files = receive(self._socket)
            if files:
                process, theirs = files
                return Child(socket.socket(fileno=theirs), process, self._socket)
            if not message:
                self._end()
            return None

    def _warn(self, missing: list[str]) -> None:
        """Log, once, the layers of confinement that this machine lacks."""
        if missing != self._missing:
            self._missing = missing
            log.warning("Decoders are confined less, as docs/security.md says: no %s.", "; no ".join(missing))

    def lost(self, server: socket.socket) -> bool:
        """Whether a fork server has ended, and its children with it. Its socket is closed before they are killed."""
        with self._lock:
            if not self._process or server is not self._socket:  # there may be another by now
                return True
            poll = select.poll()
            poll.register(server, 0)  # a hang-up is told unasked
            return bool(poll.poll(0))

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(60)
        with theirs:
            self._process = subprocess.Popen(
                [*DECODER, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=HOME,
                env=_inherited() | ENVIRONMENT,
                stdin=subprocess.DEVNULL,
            )

    def _end(self) -> None:
        if self._process:
            self._socket.close()
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        with self._lock:
            self._end()


server = ForkServer()
atexit.register(server.close)
