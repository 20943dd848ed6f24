"""Pictures that strangers send are decoded in a process that may die of it, on Linux; elsewhere, where they are.

    service ── warden ── child     a child for each picture under way, kept for the next one
       └───────────────────┘       between these two a socket, and a tray of memory for pixels

The warden is a small process that has loaded the decoders and nothing else. It forks children, which takes
milliseconds, and ends with the service, its children with it, however the service ends. A child has limits on
memory, processor time and time. One that dies, hangs or runs out of memory is a `BadPicture` or `TooLarge`, and the
next picture gets another. The command line decodes in place: its files are the user's own, and so is the process.
"""

import atexit
import ctypes
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import AvifImagePlugin

from core.errors import BadPicture, ImpastoError, TooLarge, Unavailable, UnsupportedFormat
from core.images import DEFAULT_LIMITS, Bytes, Limits, Picture, check, opened, pixels
from core.images import decode as decode_here

MEMORY = 1_000_000_000
"""Bytes that a child may map, over what it starts with."""
SECONDS = 10.0
"""Of processor time, and of time, for one picture."""
PICTURES = 500
"""That a child decodes: then another takes its place, whatever decoders have leaked."""
IDLE = 10.0
"""Seconds without a picture, after which a child gives back the memory that it keeps warm."""
MESSAGE = 65_536

ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # a thread in the warden would be missing in its children
    "MALLOC_ARENA_MAX": "1",  # each reserves 64 MB, which would count against a child's limit
    # Pillow's blocks of 16 MB stay with a child from picture to picture: getting them anew takes a fifth of the time
    # of decoding.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}

Admit = Callable[[int, int], None]
"""Is called with a picture's height and width before its pixels are decoded, and raises to refuse it."""


@dataclass(frozen=True)
class Terms:
    """What a child is held to."""

    limits: Limits = DEFAULT_LIMITS
    memory: int = MEMORY
    seconds: float = SECONDS


class Cage:
    """Decodes as `images.decode` does, in children. Safe to call from many threads."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._idle: list[_Child] = []
        self._lock = threading.Lock()
        self._closed = False

    def decode(self, data: bytes, admit: Admit | None = None) -> Picture:
        """Raises what `images.decode` raises, `BadPicture` or `TooLarge` also for what the child died of, and what
        `admit` raises."""
        kind = check(data, self.terms.limits)
        with self._child() as child:
            height, width = child.begin(kind, data)
            if admit:
                admit(height, width)
            return child.finish()

    def warm(self) -> None:
        """Have a child ready, so that the first picture need not wait."""
        with self._child():
            pass

    def close(self) -> None:
        """End the children; one that is at work ends when its picture is done."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for child in idle:
            child.kill()

    @contextmanager
    def _child(self) -> Iterator["_Child"]:
        """One that nobody else has; kept for the next picture if this one has left it as it was."""
        with self._lock:
            child = self._idle.pop() if self._idle else None
        child = child or _Child(self.terms)
        try:
            yield child
        finally:
            child.drop()
            with self._lock:
                keep = child.state == "ready" and not self._closed
                if keep:
                    self._idle.append(child)
            if not keep:
                child.kill()


class InPlace(Cage):
    """No cage: where there is no Linux to make one of, and for who has put one around all of the service."""

    def decode(self, data: bytes, admit: Admit | None = None) -> Picture:
        if admit:
            with opened(data, check(data, self.terms.limits), self.terms.limits) as image:
                admit(image.height, image.width)
        return decode_here(data, self.terms.limits)

    def warm(self) -> None:
        pass


def open_cage(terms: Terms, on: bool) -> Cage:
    return Cage(terms) if on and sys.platform == "linux" else InPlace(terms)


class _Child:
    """The service's side of a child. `state`: `ready` for a picture, `begun` with one, `spent`, or `dead`."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._fork()

    def _fork(self) -> None:
        tray = _memory(4 * self.terms.limits.max_pixels)  # takes what is written to it, and no more
        try:
            self._socket, self._process = _warden.fork(self.terms, tray)
            self._tray = np.frombuffer(mmap.mmap(tray, 0, prot=mmap.PROT_READ), np.uint8)
        finally:
            os.close(tray)
        self.state = "ready"

    def kill(self) -> None:
        if self.state == "dead":
            return
        self.state = "dead"
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        os.close(self._process)
        self._socket.close()
        del self._tray

    def begin(self, kind: str, data: bytes) -> tuple[int, int]:
        """Height and width by the header of a file. Raises what reading it raises."""
        file = _memory(len(data), data)
        try:
            try:
                socket.send_fds(self._socket, [kind.encode()], [file])
            except OSError:  # it has died since the last picture, perhaps for want of memory
                self.kill()
                self._fork()
                socket.send_fds(self._socket, [kind.encode()], [file])
        finally:
            os.close(file)
        self.state, self._until = "begun", time.monotonic() + self.terms.seconds
        answer = self._answer()
        return int(answer["height"]), int(answer["width"])

    def finish(self) -> Picture:
        """The picture that was begun."""
        with suppress(OSError):  # it has died: the answer says so
            self._socket.send(b"go on")
        answer = self._answer()
        height, width = int(answer["height"]), int(answer["width"])
        size = height * width
        rgb, alpha = self._tray[: 3 * size], self._tray[3 * size : 4 * size]
        return Picture(
            rgb.reshape(height, width, 3).copy(), alpha.reshape(height, width).copy() if answer["alpha"] else None
        )

    def drop(self) -> None:
        """Forget a picture that was begun and is not to be finished."""
        if self.state == "begun":
            self.state = "ready"
            with suppress(OSError):
                self._socket.send(b"")

    def _answer(self) -> dict[str, Any]:
        self.state, seconds = "spent", self.terms.seconds
        try:
            self._socket.settimeout(max(0.001, self._until - time.monotonic()))
            answer: dict[str, Any] = json.loads(self._socket.recv(MESSAGE))
        except TimeoutError as error:
            message = f"Decoding the picture took longer than {seconds:g} s, and was ended. Save it as PNG or JPEG."
            raise BadPicture(message, limit=seconds) from error
        except (OSError, ValueError) as error:
            raise BadPicture(
                f"Decoding the picture ended the decoder. The file is broken, or takes more than the {seconds:g} s or "
                f"{self.terms.memory:,} bytes of memory that there are for it. Save it as PNG or JPEG."
            ) from error
        self.state = answer["state"]
        if "error" in answer:
            raise _ERRORS[answer["error"]](answer["message"], **answer["extra"])
        return answer


_ERRORS = {kind.__name__: kind for kind in (BadPicture, UnsupportedFormat, TooLarge)}


class _Warden:
    """The process that forks children: one for each process that has cages, started when first needed, and again
    should it have died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, terms: Terms, tray: int) -> tuple[socket.socket, int]:
        """A child's socket, and the file descriptor of its process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._lock:
            for _ in range(2):
                if not self._process:
                    self._start()
                with suppress(OSError, ValueError):
                    socket.send_fds(self._socket, [json.dumps(asdict(terms)).encode()], [theirs.fileno(), tray])
                    _, (process,) = _receive(self._socket)
                    return ours, process
                self._end()
        ours.close()
        raise Unavailable("The process that decodes pictures does not start.", retry_after=10)

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(60)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "core.cage", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=Path(__file__).parent.parent,
                env=os.environ | ENVIRONMENT,
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


_warden = _Warden()
atexit.register(_warden.close)


def _memory(size: int, data: bytes = b"") -> int:
    """A file descriptor of memory that nobody can make smaller under another's feet."""
    file = os.memfd_create("picture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
        os.ftruncate(file, size)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except BaseException:
        os.close(file)
        raise
    return file


def _receive(service: socket.socket) -> tuple[bytes, list[int]]:
    """A message and the file descriptors that came with it; nothing where the other side is gone."""
    try:
        message, files, _, _ = socket.recv_fds(service, MESSAGE, 2)
    except ConnectionResetError:
        return b"", []
    return message, files


# --- the warden and its children ------------------------------------------------------------------


def _keep_watch(service: socket.socket) -> None:
    """Fork a child for each message, until the service is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # come to a whole group at once: the service says when it is over
        signal.signal(number, signal.SIG_IGN)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 4  # not one for each core: a thread's stack counts as memory
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks what children ended with
    while True:
        message, files = _receive(service)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            service.close()
            own, tray = files
            _live(own, tray, **json.loads(message))
            os._exit(0)
        process = os.pidfd_open(pid)
        socket.send_fds(service, [b"forked"], [process])
        for file in (process, *files):
            os.close(file)


def _live(own: int, tray: int, limits: dict[str, int], memory: int, seconds: float) -> None:
    """Decode one picture after the other."""
    libc = ctypes.CDLL(None)
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: with the warden
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
            kind, files = _receive(service)
        except TimeoutError:
            pixels.madvise(mmap.MADV_REMOVE)
            if hasattr(libc, "malloc_trim"):
                libc.malloc_trim(0)
            service.settimeout(None)
            kind, files = _receive(service)
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
    _keep_watch(socket.socket(fileno=int(sys.argv[1])))
