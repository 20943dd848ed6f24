"""Multipart forms in UTF-8 alone: others are refused before they are parsed.

A client may name any of Python's codecs, and some take quadratic time: 400 KB of punycode held the event loop for 17 s.
The parser of urlencoded forms takes 200 ms for each MB.
"""

from python_multipart.multipart import parse_options_header
from starlette.types import ASGIApp, Receive, Scope, Send

from impasto.api.errors import answer
from impasto.core.errors import BadParameter

LONGEST = 1000
"""Bytes of a Content-Type that is read. A boundary has 70 at most."""
UTF_8 = {"utf-8", "utf8", "us-ascii"}


class Utf8Multipart:
    """ASGI middleware. A body whose Content-Type is another form, or names another charset, is read to its end and
    answered with 422."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (fault := _fault(scope)):
            await self.app(scope, receive, send)
            return
        while (await receive()).get("more_body", False):  # a client that is cut off may never read our answer
            pass
        await answer(BadParameter(fault))(scope, receive, send)


def _fault(scope: Scope) -> str:
    """What is wrong with Content-Type, read as Starlette reads it: its length, its kind of form, or its charset."""
    for name, value in scope["headers"]:
        if name == b"content-type":
            if len(value) > LONGEST:  # parsing takes long
                return f"Content-Type has {len(value):,} bytes. At most {LONGEST:,} are allowed."
            kind, options = parse_options_header(value)
            if kind == b"application/x-www-form-urlencoded":
                return "The body is a urlencoded form. Send a multipart form: curl -F image=@photo.jpg …"
            charset = options.get(b"charset", b"utf-8").decode("latin-1")
            if charset.lower() not in UTF_8:
                return f"{charset[:40]!r} is not a charset that forms may have: send UTF-8, or leave the charset out."
    return ""
