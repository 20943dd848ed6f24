"""Pictures that strangers send are decoded in a process that may die of it, on Linux; elsewhere, where they are.

    service ── fork server ── child     a child for each picture under way, kept for the next one
       └────────────────────────┘       between these two a socket, and a tray of memory for pixels

The fork server is a small process that has loaded the decoders and nothing else. It ends with the service, its
children with it, however the service ends. A child has limits on memory, processor time and time. One that dies, hangs
or runs out of memory is a `BadPicture` or `TooLarge`, and the next picture gets another. The command line decodes in
place: its files are the user's own, and so is the process.
"""

import fcntl
import json
import mmap
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from impasto.core.errors import BadPicture, TooLarge, Unavailable, UnsupportedFormat
from impasto.core.pictures import forkserver
from impasto.core.pictures.codec import Picture
from impasto.core.pictures.codec import decode as decode_here
from impasto.core.pictures.guard import DEFAULT_LIMITS, Limits, check, opened
from impasto.core.pictures.sandbox_child import MESSAGE

MEMORY = 1_500_000_000
"""Bytes that a child may map, over what it starts with: 50 megapixels of WebP with a profile take over 1 GB."""
SECONDS = 20.0
"""Of processor time, and of time, for one picture."""


@dataclass(frozen=True)
class Terms:
    """The limits that a child is held to."""

    limits: Limits = DEFAULT_LIMITS
    memory: int = MEMORY
    seconds: float = SECONDS


@dataclass(frozen=True)
class Sent:
    """A picture whose header was read. `pixels()` decodes it, once."""

    height: int
    width: int
    pixels: Callable[[], Picture]
    """Raises what `codec.decode` raises."""


class Sandbox:
    """Decodes as `codec.decode` does, in children. Safe to call from many threads."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._idle: list[_Child] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def open(self, data: bytes) -> Iterator[Sent]:
        """Read the header of a picture, whose size is known before any pixel is decoded.

        Opening and decoding raise what `codec.decode` raises, `BadPicture` or `TooLarge` also for what the child died
        of, and `Unavailable` where its fork server has ended.
        """
        kind = check(data, self.terms.limits)
        with ExitStack() as held:
            child = held.enter_context(self._child())

            def pixels() -> Picture:
                with held:  # the child is free for another picture afterwards
                    return child.finish()

            yield Sent(*child.begin(kind, data), pixels)

    def decode(self, data: bytes) -> Picture:
        """Raises what `open` raises."""
        with self.open(data) as sent:
            return sent.pixels()

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
        """A child that nobody else has. It is kept for the next picture if this one has left it as it was."""
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


@dataclass(frozen=True)
class InPlace:
    """Decodes in this process: where there is no Linux, or the whole service is in a sandbox already."""

    terms: Terms

    @contextmanager
    def open(self, data: bytes) -> Iterator[Sent]:
        """As `Sandbox.open`. Raises what `codec.decode` raises."""
        with opened(data, check(data, self.terms.limits), self.terms.limits) as image:
            height, width = image.height, image.width
        yield Sent(height, width, pixels=lambda: decode_here(data, self.terms.limits))

    def decode(self, data: bytes) -> Picture:
        """Raises what `codec.decode` raises."""
        return decode_here(data, self.terms.limits)

    def warm(self) -> None:
        """Nothing is to be started."""

    def close(self) -> None:
        """Nothing is to be ended."""


def open_sandbox(terms: Terms, on: bool) -> Sandbox | InPlace:
    return Sandbox(terms) if on and sys.platform == "linux" else InPlace(terms)


class _Child:
    """The service's side of a child. `state`: `ready` for a picture, `begun` with one, `spent`, or `dead`."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._fork()

    def _fork(self) -> None:
        terms = json.dumps(asdict(self.terms)).encode()
        tray = _memory(4 * self.terms.limits.max_pixels)  # takes what is written to it, and no more
        try:
            self._socket, self._process, self._server = forkserver.server.fork(terms, tray)
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
            if forkserver.server.lost(self._server):
                # Not tried again here: whoever was told the size may have made room for it.
                message = "The process that decodes pictures was ended. Send the picture again."
                raise Unavailable(message, retry_after=1) from error
            raise BadPicture(
                f"Decoding the picture ended the decoder. The file is broken, or takes more than the {seconds:g} s or "
                f"{self.terms.memory:,} bytes of memory that there are for it. Save it as PNG or JPEG."
            ) from error
        self.state = answer["state"]
        if "error" in answer:
            raise _ERRORS[answer["error"]](answer["message"], **answer["extra"])
        return answer


_ERRORS = {kind.__name__: kind for kind in (BadPicture, UnsupportedFormat, TooLarge)}


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
