"""Requests of Schemathesis that a schema cannot describe: now and then a picture, now and then a job."""

import io
from typing import Any
from zlib import crc32

import schemathesis
from hypothesis import strategies
from PIL import Image


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((24, 18)).save(buffer, "png")
    return buffer.getvalue()


schemathesis.openapi.format("binary", strategies.just(_png()) | strategies.binary(max_size=100))


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """One in three of the submissions that are meant to be right is a job, for the links of its answer to lead to."""
    submits = (case.method.upper(), case.path) == ("POST", "/jobs")
    if submits and case.meta and case.meta.generation.mode.is_positive and crc32(repr(case.body).encode()) % 3 == 0:
        case.body = {"kind": "gatys", "style": "wave", "image": _png()}
        case._record_starting_state()  # private: or bytes from a hook count as against the schema
