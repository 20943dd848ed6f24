"""Decode pictures that clients send in processes that may die of them, on Linux; elsewhere, in this process.

    service ── fork server ── child     a new child for each picture
       └────────────────────────┘       between these two a socket, and shared memory for what is decoded

The fork server is a small process that has loaded the decoders and nothing else. It ends with the service, its
children with it, however the service ends. A child has limits on memory, processor time and time, and can do nothing
but decode (`core.pictures.confine`). One that dies, hangs or runs out of memory is a `BadPicture` or `TooLarge`. The
command line decodes in place: its files are the user's own, and so is the process.
"""

import fcntl
import json
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import IO, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, NonNegativeInt

from impasto.core.errors import BadParameter, BadPicture, TooLarge, Unavailable, UnsupportedFormat
from impasto.core.pictures import forkserver
from impasto.core.pictures.archive import pictures_in
from impasto.core.pictures.codec import Picture
from impasto.core.pictures.codec import decode as decode_here
from impasto.core.pictures.guard import DEFAULT_LIMITS, Limits, check, check_pixels, opened
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

    @contextmanager
    def open(self, data: bytes) -> Iterator[Sent]:
        """Read the header of a picture, whose size is known before any pixel is decoded.

        Opening and decoding raise what `codec.decode` raises, `BadPicture` or `TooLarge` also for what the child died
        of, and `Unavailable` where its fork server has ended.
        """
        kind = check(data, self.terms.limits)
        with ExitStack() as child:
            decoding = child.enter_context(_Decoding(self.terms, kind, data))

            def pixels() -> Picture:
                with child:  # it ends here, and with it the memory that it shares
                    return decoding.picture()

            yield Sent(*decoding.size(), pixels)

    def decode(self, data: bytes) -> Picture:
        """Raises what `open` raises."""
        with self.open(data) as sent:
            return sent.pixels()

    def unpack(self, file: IO[bytes], name: str) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of each picture in a zip file; of one that is too large, one byte more than the limit.

        Raises what `archive.pictures_in` raises, `BadPicture` also for what the child died of, and `Unavailable`.
        """
        task = {"archive": name[:200], "bytes": file.seek(0, os.SEEK_END), "shared": self.terms.limits.max_bytes + 1}
        with _Child(self.terms, task, file.fileno()) as child:
            while (answer := child.answer()).name is not None:
                yield answer.name, child.shared[: answer.bytes].tobytes()
                child.until = time.monotonic() + self.terms.seconds
                child.go_on()

    def warm(self) -> None:
        """Start the fork server, so that the first picture need not wait; log what confinement the machine lacks."""
        forkserver.server.fork().end()


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

    def unpack(self, file: IO[bytes], name: str) -> Iterator[tuple[str, bytes]]:
        """As `Sandbox.unpack`. Raises what `archive.pictures_in` raises."""
        return pictures_in(file, name, self.terms.limits.max_bytes)

    def warm(self) -> None:
        """Nothing is to be started."""


def open_sandbox(terms: Terms, on: bool) -> Sandbox | InPlace:
    return Sandbox(terms) if on and sys.platform == "linux" else InPlace(terms)


class _Child:
    """A child at work on one file. It is killed at the end: the file may have taken it over."""

    def __init__(self, terms: Terms, task: dict[str, Any], file: int) -> None:
        """`task` is sent to the child, with the bytes of the `file` and of the shared memory for its results."""
        self.terms = terms
        self.until = time.monotonic() + terms.seconds
        with _memory(task["shared"]) as shared:  # takes what is written to it, and no more
            self.shared = np.frombuffer(mmap.mmap(shared, task["shared"], prot=mmap.PROT_READ), np.uint8)
            self._child = forkserver.server.fork(json.dumps(asdict(terms) | task).encode(), (file, shared))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.end()
        del self.shared

    def go_on(self) -> None:
        with suppress(OSError):  # it has died: the answer says so
            self._child.socket.send(b"go on")

    def answer(self) -> "_Answer":
        """Wait for the next answer. Raises the error in it, and for a child that died or is late."""
        seconds = self.terms.seconds
        try:
            self._child.socket.settimeout(max(0.001, self.until - time.monotonic()))
            answer = _Answer.model_validate_json(self._child.socket.recv(MESSAGE))
        except TimeoutError as error:
            message = f"Decoding the picture took longer than {seconds:g} s, and was ended. Save it as PNG or JPEG."
            raise BadPicture(message, limit=seconds) from error
        except (OSError, ValueError) as error:
            if forkserver.server.lost(self._child.server):
                # Not tried again here: whoever was told the size may have made room for it.
                message = "The process that decodes pictures was ended. Send the picture again."
                raise Unavailable(message, retry_after=1) from error
            raise BadPicture(
                f"Decoding the picture ended the decoder. The file is broken, or takes more than the {seconds:g} s or "
                f"{self.terms.memory:,} bytes of memory that there are for it. Save it as PNG or JPEG."
            ) from error
        if answer.error:
            raise _ERRORS[answer.error](answer.message, **answer.extra)
        return answer


class _Decoding(_Child):
    """A child at work on one picture."""

    def __init__(self, terms: Terms, kind: str, data: bytes) -> None:
        with _memory(len(data), data) as file:
            super().__init__(terms, {"kind": kind, "bytes": len(data), "shared": 4 * terms.limits.max_pixels}, file)

    def size(self) -> tuple[int, int]:
        """Height and width by the header of the file. Raises what reading it raises."""
        answer = self.answer()
        check_pixels(answer.width, answer.height, self.terms.limits)
        self._promised = answer.height * answer.width
        return answer.height, answer.width

    def picture(self) -> Picture:
        """Its pixels, after its size. Raises what decoding raises."""
        self.go_on()
        answer = self.answer()
        height, width = answer.height, answer.width
        check_pixels(width, height, self.terms.limits)
        size = height * width
        if size > self._promised:
            message = f"The picture has {size:,} pixels, and {self._promised:,} by its header. Save it anew."
            raise BadPicture(message, limit=self._promised, actual=size)
        rgb, alpha = self.shared[: 3 * size], self.shared[3 * size : 4 * size]
        return Picture(
            rgb.reshape(height, width, 3).copy(), alpha.reshape(height, width).copy() if answer.alpha else None
        )


class _Answer(BaseModel):
    """A child's message: the size of a picture, a file of an archive, or an error. Checked, as a child may have been
    taken over."""

    height: int = 0
    width: int = 0
    alpha: bool = False
    name: str | None = None
    bytes: NonNegativeInt = 0
    error: Literal["BadPicture", "UnsupportedFormat", "TooLarge", "BadParameter"] | None = None
    message: str = ""
    extra: dict[Literal["limit", "actual", "scale_to"], int | float] = {}


_ERRORS = {kind.__name__: kind for kind in (BadPicture, UnsupportedFormat, TooLarge, BadParameter)}


@contextmanager
def _memory(size: int, data: bytes = b"") -> Iterator[int]:
    """A file descriptor of memory that nobody can make smaller under another's feet."""
    file = os.memfd_create("picture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
        os.ftruncate(file, size)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        yield file
    finally:
        os.close(file)
