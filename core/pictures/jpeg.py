"""JPEG files: a limit on scans, files without an end marker, pictures that are halved while they are decoded."""

import io
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFile

from impasto.core.errors import BadPicture

MAX_SCANS = 64  # cameras and tools write 1 to 10
MAX_SEGMENTS = 10_000  # up to the last scan: a few thousand are many
SCAN, END = b"\xff\xda", b"\xff\xd9"
# A marker that a segment follows: neither a stuffed zero, nor fill, nor one that stands alone.
SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
OTHER_BITS = (b"\xaa" * 128, b"\x55" * 128, b"\x0f" * 128)  # libjpeg goes on with zeros where a file ends early


def check_scans(data: bytes) -> None:
    """Raise BadPicture for too many scans: each costs a pass over all pixels, and 1,000 of them fit in 134 KB."""
    if data.count(SCAN) <= MAX_SCANS:
        return
    scans = 0
    for marker in _markers(data):  # the bytes of one may also be chance, in a profile or the video after a picture
        scans += marker == SCAN
        if scans > MAX_SCANS:
            raise BadPicture(f"The JPEG has over {MAX_SCANS} scans. Save it not progressive.", limit=MAX_SCANS)


def ended(data: bytes) -> bytes:
    """`data`, with an end marker where it has none: webcams leave it out, and files that were cut short lack it.
    libjpeg would not give the last rows without it."""
    return data if data.endswith(END) or END in _markers(data) else data + END


def _markers(data: bytes) -> Iterator[bytes]:
    """The markers of a JPEG that have a segment, and the one at its end: not those of the thumbnail in a segment.

    Raises BadPicture for more than `MAX_SEGMENTS`.
    """
    position = 2
    for _ in range(MAX_SEGMENTS):
        if not (found := SEGMENT.search(data, position)):
            return
        yield found[0]
        if found[0] == END:
            return
        position = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2], "big"))
    raise BadPicture(f"The JPEG has over {MAX_SEGMENTS:,} segments. Save it as PNG.", limit=MAX_SEGMENTS)


def check_whole(image: Image.Image, data: bytes) -> None:
    """Raise BadPicture if `data`, which lacked an end marker, lacks pixels of `image`, too, which was decoded from it.

    Decodes it again with other bits behind it, which change a pixel only where some were missing. Of several scans
    whole ones may be missing, and nothing tells.
    """
    several = "progressive" in image.info or data[data.rfind(SCAN) + 4] != len(image.getbands())
    if several or not all(_same(image, data, bits) for bits in OTHER_BITS):
        raise BadPicture("The JPEG file is cut short. Send it again, or save it anew.")


def _same(image: Image.Image, data: bytes, bits: bytes) -> bool:
    """Whether `data` with these bits behind it decodes to `image`."""
    half = b"\0" if data.endswith(b"\xff") else b""  # of two bytes
    with Image.open(io.BytesIO(data + half + bits + END), formats=["JPEG"]) as other:
        if other.size != image.size:
            halve(other)
        bands = ((0, top, image.width, min(top + 64, image.height)) for top in range(0, image.height, 64))
        return all(np.array_equal(np.asarray(image.crop(band)), np.asarray(other.crop(band))) for band in bands)


def halve(image: Image.Image) -> None:
    """Have libjpeg decode a picture at half its size, rounded up."""
    assert isinstance(image, ImageFile.ImageFile)
    image.draft(None, (image.width // 2, image.height // 2))
