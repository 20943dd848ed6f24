"""What Schemathesis sends where a schema says `binary`: now and then a picture."""

import io

import schemathesis
from hypothesis import strategies
from PIL import Image


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((24, 18)).save(buffer, "png")
    return buffer.getvalue()


schemathesis.openapi.format("binary", strategies.just(_png()) | strategies.binary(max_size=100))
