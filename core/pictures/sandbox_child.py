"""The process that decodes what strangers send: the fork server, and the children that it forks.

`core.pictures.forkserver` starts it as `python -m impasto.core.pictures.sandbox_child FD`: FD is the file descriptor
of a socket to the service.
"""

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import AvifImagePlugin

from impasto.core.errors import ImpastoError
from impasto.core.pictures.codec import Bytes, pixels
from impasto.core.pictures.guard import Limits, opened

PICTURES = 500
"""That a child decodes: then another takes its place, whatever decoders have leaked."""
IDLE = 10.0
"""Seconds without a picture, after which a child gives back the memory that it keeps warm."""
MESSAGE = 65_536
"""Bytes of the longest message between service, fork server and children."""


def receive(other: socket.socket) -> tuple[bytes, list[int]]:
    """A message and the file descriptors that came with it; nothing where the other side is gone."""
    try:
        message, files, _, _ = socket.recv_fds(other, MESSAGE, 2)
    except ConnectionResetError:
        return b"", []
    return message, files


def serve(service: socket.socket) -> None:
    """Fork a child for each message, until the service is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # come to a whole group at once: the service says when it is over
        signal.signal(number, signal.SIG_IGN)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 4  # not one for each core: a thread's stack counts as memory
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks what children ended with
    while True:
        message, files = receive(service)
        if not message:
            return
        own, tray = files
        # Without a process where it cannot be had, or is gone already: the service asks again. The fork server goes
        # on, and with it the pictures of all others.
        process: list[int] = []
        with suppress(OSError):
            process = [_fork(service, own, tray, json.loads(message))]
        socket.send_fds(service, [b"forked"], process)
        for file in (*process, *files):
            os.close(file)


def _fork(service: socket.socket, own: int, tray: int, terms: dict[str, Any]) -> int:
    """The file descriptor of a new child's process. Raises OSError."""
    pid = os.fork()
    if pid == 0:
        try:
            service.close()
            _live(own, tray, **terms)
        finally:
            os._exit(0)  # whatever was raised: no child may become a second fork server
    return os.pidfd_open(pid)


def _live(own: int, tray: int, limits: dict[str, int], memory: int, seconds: float) -> None:
    """Decode one picture after the other."""
    libc = ctypes.CDLL(None)
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: with the fork server
    libc.prctl(38, *map(ctypes.c_ulong, (1, 0, 0, 0)))  # PR_SET_NO_NEW_PRIVS: no program it might start has more rights
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # decoders write there what they find in a file
        os.dup2(nothing, stream)
    with suppress(OSError):  # where memory is short, the system is to take this process first
        Path("/proc/self/oom_score_adj").write_text("1000")
    pixels = mmap.mmap(tray, 0)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    service = socket.socket(fileno=own)
    for left in reversed(range(PICTURES)):
        service.settimeout(IDLE)
        try:
            kind, files = receive(service)
        except TimeoutError:
            pixels.madvise(mmap.MADV_REMOVE)
            if hasattr(libc, "malloc_trim"):
                libc.malloc_trim(0)
            service.settimeout(None)
            kind, files = receive(service)
        service.settimeout(None)
        if not files:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        most = ceil(used.ru_utime + used.ru_stime + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM ends the process, whatever it is doing
        answer = _decode(service, kind.decode(), files[0], Limits(**limits), pixels)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if answer:
            answer = {"state": "ready" if left else "spent", **answer}
            service.send(json.dumps(answer).encode())
            if answer["state"] == "spent":
                return


def _decode(service: socket.socket, kind: str, file: int, limits: Limits, tray: mmap.mmap) -> dict[str, Any] | None:
    """The last answer to a picture; None where it was dropped."""
    planes = np.frombuffer(tray, np.uint8)

    def place(shape: tuple[int, ...]) -> Bytes:
        """Colours in front and alpha behind them, as the service takes them from the tray."""
        start = 0 if len(shape) == 3 else 3 * prod(shape)
        return planes[start : start + prod(shape)].reshape(shape)

    try:
        data = os.pread(file, os.fstat(file).st_size, 0)
        os.close(file)
        with opened(data, kind, limits) as image:
            service.send(json.dumps({"state": "begun", "height": image.height, "width": image.width}).encode())
            if not service.recv(MESSAGE):
                return None
            picture = pixels(image, limits, place)
            return {"height": picture.height, "width": picture.width, "alpha": picture.alpha is not None}
    except (ImpastoError, MemoryError) as error:
        if isinstance(error, ImpastoError) and not isinstance(error.__cause__, MemoryError):
            return {"error": type(error).__name__, "message": error.message, "extra": error.extra}
        message = "Decoding the picture takes more memory than there is for it. Scale it down, or save it as JPEG."
        return {"error": "TooLarge", "message": message, "extra": {}, "state": "spent"}


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
