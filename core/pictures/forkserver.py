"""The fork server of the sandbox, from the service's side: a small process that has loaded the decoders and forks.

Forking takes milliseconds; starting Python and its decoders takes far longer. The process itself is
`core.pictures.sandbox_child`.
"""

import atexit
import os
import select
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from impasto.core.errors import Unavailable
from impasto.core.pictures.sandbox_child import receive

DECODER = (sys.executable, "-m", "impasto.core.pictures.sandbox_child")
"""The command of the fork server."""
HOME = Path(__file__).parents[3]
"""The folder of the package `impasto`, from which `-m` finds it however it was imported here."""
INHERITED = (
    *("PATH", "HOME", "TMPDIR", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV"),
    *("PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"),
)
"""What a Python process needs of the environment, with LC_*. In the rest are passwords and keys."""

ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # a thread in the fork server would be missing in its children
    "MALLOC_ARENA_MAX": "1",  # each reserves 64 MB, which would count against a child's limit
    # Pillow's blocks of 16 MB stay with a child from picture to picture: getting them anew takes a fifth of the time
    # of decoding.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in INHERITED or name.startswith("LC_")}


class ForkServer:
    """One process that forks children: started when it is first needed, and again when it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, terms: bytes, tray: int) -> tuple[socket.socket, int, socket.socket]:
        """Fork a child that is held to `terms`, as JSON, and writes pixels to the file descriptor `tray`.

        Return the child's socket, the file descriptor of its process, and the socket of its fork server, for `lost`.
        Raises Unavailable.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._lock:
            for _ in range(3):
                if not self._process:
                    self._start()
                message = b""
                with suppress(OSError):
                    socket.send_fds(self._socket, [terms], [theirs.fileno(), tray])
                    message, process = receive(self._socket)
                    if process:
                        return ours, process[0], self._socket
                if not message:  # nobody is there; otherwise it is the child that died as soon as it was born
                    self._end()
        ours.close()
        raise Unavailable("The process that decodes pictures does not start.", retry_after=10)

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
