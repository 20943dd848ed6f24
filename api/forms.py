"""Pictures in requests, in the forms that clients send them in."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

from impasto.api.services.job_form import FILES
from impasto.core.pictures.codec import MEDIA_TYPES, Format

PICTURES = {name.encode() for names in FILES.values() for name in names}
"""Fields that are files, whether or not they have a file name; `image` is that of `/stylize` and `/compare`, too."""

PIECE = 32_768
"""Bytes that are parsed before other requests have their turn: 10 ms of what takes the parser longest."""
SECONDS, SECONDS_PER_MB = 0.5, 0.005
"""Processor time that a form may take to parse: the first, and the second for each MB. Photographs take 0.001 s a MB,
blanks 0.2 s."""


class PictureForms(APIRoute):
    """A route whose forms may have pictures in parts without a file name: many HTTP clients give none to bytes, or only
    as `filename*`. Starlette would take such a part for text of 1 MB at most."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_with_pictures(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return handle_with_pictures


class _Request(Request):
    async def _get_form(self, **limits: Any) -> FormData:
        if self._form is None and _media_type(self) == "multipart/form-data":
            try:
                self._form = await _Parser(self, **limits).parse()
            except MultiPartException as error:
                raise HTTPException(400, error.message) from error
        return await super()._get_form(**limits)


class _Parser(MultiPartParser):
    """Parse in small pieces, one of all requests in each turn of the event loop, in bounded time.

    The parser is pure Python: in a thread it would keep the event loop waiting for the interpreter's lock.
    """

    _last_data: float | None = None  # when the parser last found data in the present piece

    def __init__(self, request: Request, **limits: Any) -> None:
        super().__init__(request.headers, self._pieces(request), **limits)

    async def _pieces(self, request: Request) -> AsyncGenerator[bytes, None]:
        turn: asyncio.Lock = request.app.state.parsing
        spent, allowed = 0.0, SECONDS
        async for chunk in request.stream():
            for start in range(0, len(chunk), PIECE):
                async with turn:
                    await asyncio.sleep(0)
                self._last_data, begun = None, time.thread_time()
                yield (piece := chunk[start : start + PIECE])
                # After the last data Starlette may have waited for the disk, while other requests ran.
                spent += (self._last_data or time.thread_time()) - begun
                allowed += SECONDS_PER_MB * len(piece) / 1e6
                if spent > allowed:
                    raise MultiPartException(  # FastAPI would answer another error without its message
                        f"The form takes more than {allowed:.1f} s to parse: it is padding, or thousands of parts. "
                        "Send each picture as one part, as curl -F image=@photo.jpg does."
                    )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        super().on_part_data(data, start, end)
        self._last_data = time.thread_time()

    def on_headers_finished(self) -> None:
        part = self._current_part
        _, options = parse_options_header(part.content_disposition)
        if options.get(b"name") in PICTURES and b"filename" not in options:
            part.content_disposition = (part.content_disposition or b"") + b'; filename=""'
        super().on_headers_finished()


async def raw_picture(request: Request) -> bytes:
    """The body, where it is no form but the picture itself by its Content-Type; nothing otherwise."""
    kind = _media_type(request)
    return await request.body() if kind.startswith("image/") or kind in ("", "application/octet-stream") else b""


def preferred_format(request: Request) -> Format | None:
    """The format that `Accept` names before others; None where it names none of ours."""
    preferences: dict[Format, float] = {}
    for part in request.headers.get("Accept", "")[:1000].split(","):
        kind, options = parse_options_header(part.strip())
        for format, media_type in MEDIA_TYPES.items():
            if kind.decode("latin-1") == media_type:
                preferences.setdefault(format, _quality(options.get(b"q", b"1")))
    best = max(preferences, key=lambda format: preferences[format], default=None)
    return best if best and preferences[best] > 0 else None


def _quality(value: bytes) -> float:
    try:
        return float(value)
    except ValueError:
        return 0.0


def _media_type(request: Request) -> str:
    return parse_options_header(request.headers.get("Content-Type"))[0].decode("latin-1")
