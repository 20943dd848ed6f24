"""The processes that decode what clients send: the fork server, and the children that it forks.

`core.pictures.forkserver` starts it as `python -m impasto.core.pictures.sandbox_child FD`: FD is the file descriptor
of a socket to the service. A child decodes one picture, or unpacks one archive, and ends: no client's file meets a
process that another's has touched. One child is forked ahead: nobody waits for it to start.
"""

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import AvifImagePlugin, Image

from impasto.core.errors import ImpastoError
from impasto.core.pictures.archive import pictures_in
from impasto.core.pictures.codec import Bytes, pixels
from impasto.core.pictures.confine import confine, hide_memory, prepare
from impasto.core.pictures.guard import Limits, opened

MESSAGE = 65_536
"""Bytes of the longest message between service, fork server and children."""
PR_SET_PDEATHSIG = 1


def receive(other: socket.socket) -> tuple[bytes, list[int]]:
    """A message and the file descriptors that came with it; nothing where the other side is gone."""
    try:
        message, files, _, _ = socket.recv_fds(other, MESSAGE, 2)
    except ConnectionResetError:
        return b"", []
    return message, files


def serve(service: socket.socket) -> None:
    """Hand out a child for each message, until the service is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # come to a whole group at once: the service says when it is over
        signal.signal(number, signal.SIG_IGN)
    Image.init()  # loads every decoder now: a child can open no file
    AvifImagePlugin.DEFAULT_MAX_THREADS = 4  # not one for each core: a thread's stack counts as memory
    with suppress(OSError):  # where memory is short, the system is to take these processes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    hide_memory()  # its children too: they are no programs of their own
    filter = prepare()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how children ended
    while True:
        # Empty where a process cannot be had: the service asks again. The fork server goes on, and the pictures of
        # others with it.
        child: list[int] = []
        with suppress(OSError):
            child = _fork(service, filter)
        message, _ = receive(service)
        if not message:
            return
        socket.send_fds(service, [b"forked"], child)
        for file in child:
            os.close(file)


def _fork(service: socket.socket, filter: Callable[[], None]) -> list[int]:
    """File descriptors of a new child's process, and of the socket to it. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        pid = os.fork()
        if pid == 0:
            try:
                service.close()
                ours.close()
                _live(theirs, filter)
            finally:
                os._exit(0)  # whatever was raised: no child may become a second fork server
        return [os.pidfd_open(pid), ours.detach()]


def _live(service: socket.socket, filter: Callable[[], None]) -> None:
    """Wait for a picture in confinement, and decode it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # with the fork server
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # decoders write there what they find in a file
        os.dup2(nothing, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    service.send(json.dumps(confine(filter)).encode())
    message, files = receive(service)
    if not files:
        return
    file, shared = files
    task = json.loads(message)
    resource.setrlimit(resource.RLIMIT_AS, (held + task["shared"] + task["memory"],) * 2)
    limits, memory = Limits(**task["limits"]), mmap.mmap(shared, task["shared"])
    if "archive" in task:  # the service waits `seconds` for each of its files
        answer = _unpack(service, file, task["archive"], limits, memory)
    else:
        resource.setrlimit(resource.RLIMIT_CPU, (ceil(task["seconds"]),) * 2)
        answer = _decode(service, os.pread(file, task["bytes"], 0), task["kind"], limits, memory)
    if answer:
        service.send(json.dumps(answer).encode())


def _unpack(service: socket.socket, file: int, name: str, limits: Limits, shared: mmap.mmap) -> dict[str, Any] | None:
    """Answer with each picture in a zip file, its bytes in shared memory; at last with an answer that names none."""
    try:
        with open(file, "rb") as archive:
            for member, data in pictures_in(archive, name, limits.max_bytes):
                shared[: len(data)] = data
                service.send(json.dumps({"name": member[:1000], "bytes": len(data)}).encode())
                if not service.recv(MESSAGE):
                    return None
        return {"name": None}
    except ImpastoError as error:
        return _refusal(error)


def _refusal(error: ImpastoError) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": error.message, "extra": error.extra}


def _decode(service: socket.socket, data: bytes, kind: str, limits: Limits, shared: mmap.mmap) -> dict[str, Any] | None:
    """The last answer to a picture; None where it was dropped."""
    planes = np.frombuffer(shared, np.uint8)

    def place(shape: tuple[int, ...]) -> Bytes:
        """Colours in front and alpha behind them, as the service takes them from shared memory."""
        start = 0 if len(shape) == 3 else 3 * prod(shape)
        return planes[start : start + prod(shape)].reshape(shape)

    try:
        with opened(data, kind, limits) as image:
            service.send(json.dumps({"height": image.height, "width": image.width}).encode())
            if not service.recv(MESSAGE):
                return None
            picture = pixels(image, limits, place)
            return {"height": picture.height, "width": picture.width, "alpha": picture.alpha is not None}
    except (ImpastoError, MemoryError) as error:
        if isinstance(error, ImpastoError) and not isinstance(error.__cause__, MemoryError):
            return _refusal(error)
        message = "Decoding the picture takes more memory than there is for it. Scale it down, or save it as JPEG."
        return {"error": "TooLarge", "message": message, "extra": {}}


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
