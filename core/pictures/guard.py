"""The limits on picture files, and what is checked before any pixel is decoded.

A file from outside is hostile until decoded. Cheap checks come before costly ones: the file's length, its first bytes
(`check`), the scans of a JPEG, the chunks of a PNG, the size in its header (`opened`).
"""

import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import isqrt

import numpy as np
import pillow_heif
from PIL import Image, TiffImagePlugin

from impasto.core.errors import BadPicture, ImpastoError, TooLarge, UnsupportedFormat
from impasto.core.names import MIN_SIDE

# Pillow's limit is one for the process and names no numbers when it is met; `Limits` is ours, for each call.
Image.MAX_IMAGE_PIXELS = None
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif", ".avif"))
READABLE = "JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC or AVIF"
MAX_SCANS = 64  # cameras and tools write 1 to 10
MAX_PARTS = 10_000  # segments of a JPEG up to its last scan, or chunks of a PNG: a few thousand are many
MAGIC = {  # Pillow's name of a format -> how its files begin; `_kind` knows WebP, AVIF and HEIC too
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
UNREAD = {b"%PDF": "a PDF", b"8BPS": "a Photoshop file", b"<svg": "an SVG", b"<?xml": "an SVG"}
SIZE_BOX = re.compile(rb"ispe\0{4}(.{8})", re.DOTALL)
# A JPEG marker that a segment follows: neither a stuffed zero, nor fill, nor one that stands alone.
JPEG_SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")


@dataclass(frozen=True)
class Limits:
    """The pictures that `decode` takes: bytes of the file, pixels in all, pixels of the shorter and the longer side."""

    max_bytes: int = 16_000_000
    max_pixels: int = 24_000_000
    min_side: int = MIN_SIDE
    max_side: int = 8192


DEFAULT_LIMITS = Limits()
OWN = Limits(max_bytes=10**9, max_pixels=10**9, max_side=10**9)
"""For files that are the user's own, or that passed the limits before."""


def check(data: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    """Pillow's name of the format, by the first bytes alone.

    Raises `UnsupportedFormat`; `BadPicture` for an empty file; `TooLarge` for one over `max_bytes`.
    """
    _check_bytes(data, limits)
    return _kind(data)


@contextmanager
def opened(data: bytes, kind: str, limits: Limits = DEFAULT_LIMITS) -> Iterator[Image.Image]:
    """An image of which no more than the header has been read, within `limits`. Whatever goes wrong, there or in the
    block under it, is raised as `BadPicture`, with the cause."""
    if kind == "JPEG":
        _check_scans(data)
    if kind == "PNG":
        _check_chunks(data)
    if kind in ("HEIF", "AVIF"):
        _check_boxes(data, limits)
    # Not `catch_warnings`: it swaps the state of the whole process, and many threads decode at once.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        with np.errstate(all="ignore"), Image.open(io.BytesIO(data), formats=[kind]) as image:
            _check_header(image, limits)
            yield image
    except ImpastoError:
        raise
    except Exception as error:  # a hostile file finds every kind that a decoder can raise
        raise BadPicture(
            f"The {kind} file is broken, cut short or of a rare kind. Open it where it shows, and save it anew."
        ) from error


def check_pixels(width: int, height: int, limits: Limits) -> None:
    """Raise `BadPicture` for a side under `min_side`, `TooLarge` for more pixels than `limits` allow."""
    longer, shorter = max(width, height), min(width, height)
    if shorter < limits.min_side:
        message = f"The picture is {width} x {height} pixels: send one of {limits.min_side} or more a side."
        raise BadPicture(message, limit=limits.min_side, actual=shorter)
    pixels, limit = width * height, limits.max_pixels
    if pixels > limit:
        # The shorter side is rounded, perhaps up: the longer one then gives way.
        max_side = isqrt(limit * longer // shorter)
        max_side = min(max_side, limit // min(fit(longer, shorter, max_side)), limits.max_side)
        message = (
            f"{width:,} x {height:,} are {pixels:,} pixels; the limit is {limit:,}. "
            f"Scale the picture down, its longer side to {max_side:,} at most."
        )
        raise TooLarge(message, limit=limit, actual=pixels, max_side=max_side)
    if longer > limits.max_side:
        message = (
            f"{width:,} x {height:,} pixels: the longer side may have {limits.max_side:,}. Scale the picture down."
        )
        raise TooLarge(message, limit=limits.max_side, actual=longer, max_side=limits.max_side)


def fit(height: int, width: int, max_side: int) -> tuple[int, int]:
    """(height, width) at the same aspect ratio, no side over `max_side`: never enlarged, 1 at least."""
    longest = max(height, width)
    if longest <= max_side:
        return height, width
    return max(1, round(height * max_side / longest)), max(1, round(width * max_side / longest))


def with_short_side(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) at the same aspect ratio, the shorter side `size`: enlarged where it is smaller."""
    scale = size / min(height, width)
    return round(height * scale), round(width * scale)


def _check_bytes(data: bytes, limits: Limits) -> None:
    if not data:
        raise BadPicture(f"The file is empty. Send a {READABLE} picture.")
    size, limit = len(data), limits.max_bytes
    if size > limit:
        message = f"The file has {size:,} bytes; the limit is {limit:,}. Scale it down, or save it as JPEG."
        raise TooLarge(message, limit=limit, actual=size)


def _kind(data: bytes) -> str:
    """Pillow's name of the format, by the first bytes; raises `UnsupportedFormat`."""
    for kind, magics in MAGIC.items():
        if data.startswith(magics):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        end = min(int.from_bytes(data[:4], "big"), 256)
        brands = {data[i : i + 4] for i in range(8, end, 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"}:
            return "HEIF"
    found = next((name for magic, name in UNREAD.items() if data.startswith(magic)), "of a kind unknown here")
    raise UnsupportedFormat(f"The file is {found}. Send a {READABLE} picture.")


def _check_scans(data: bytes) -> None:
    """A progressive JPEG pays for each scan with a pass over all pixels: 1,000 of them fit in 134 KB."""
    if data.count(b"\xff\xda") <= MAX_SCANS:
        return
    # The bytes of a marker may also be chance, in a profile or the video after a phone's picture: walk.
    scans, segments, position = 0, 0, 2
    while (found := JPEG_SEGMENT.search(data, position)) and found[0] != b"\xff\xd9" and scans <= MAX_SCANS:
        scans, segments = scans + (found[0] == b"\xff\xda"), segments + 1
        if segments > MAX_PARTS:
            raise BadPicture(f"The JPEG has over {MAX_PARTS:,} segments. Save it as PNG.", limit=MAX_PARTS)
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        position = found.end() + max(2, length)
    if scans > MAX_SCANS:
        raise BadPicture(f"The JPEG has over {MAX_SCANS} scans. Save it not progressive.", limit=MAX_SCANS)


def _check_chunks(data: bytes) -> None:
    """Pillow takes seconds for a few hundred thousand empty ones."""
    position = len(MAGIC["PNG"][0])
    for _ in range(MAX_PARTS):
        if position >= len(data):
            return
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    raise BadPicture(f"The PNG has over {MAX_PARTS:,} chunks. Save it anew.", limit=MAX_PARTS)


def _check_boxes(data: bytes, limits: Limits) -> None:
    """What a HEIC or AVIF shows may be a small crop of something huge: every size in the file counts."""
    for size in set(SIZE_BOX.findall(data)):
        width, height = struct.unpack(">II", size)
        check_pixels(width, height, replace(limits, min_side=1))


def _check_header(image: Image.Image, limits: Limits) -> None:
    check_pixels(*image.size, limits)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and TiffImagePlugin.TILEWIDTH in image.tag_v2:
        # libtiff decodes a tile whole, however little of it the picture shows.
        width, height = image.tag_v2[TiffImagePlugin.TILEWIDTH], image.tag_v2[TiffImagePlugin.TILELENGTH]
        check_pixels(width, height, replace(limits, min_side=1))
