"""The limits on picture files, and what is checked before any pixel is decoded.

A file from outside is hostile until decoded. Cheap checks come before costly ones: the file's length, its first bytes
(`check`), the scans of a JPEG, the chunks of a PNG, the size and the kind of colours in its header (`opened`).
"""

import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import PurePath

import numpy as np
import pillow_heif
from PIL import ExifTags, Image, TiffImagePlugin

from impasto.core.errors import BadPicture, ImpastoError, TooLarge, UnsupportedFormat
from impasto.core.names import MIN_SIDE
from impasto.core.pictures import colour, jpeg

# Pillow's limit is one for the process and names no numbers when it is met; `Limits` is ours, for each call.
Image.MAX_IMAGE_PIXELS = None
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif", ".avif"))
READABLE = "JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC or AVIF"
MAX_CHUNKS = 10_000  # of a PNG: a few thousand are many
MAGIC = {  # Pillow's name of a format -> how its files begin; `_kind` knows WebP, AVIF and HEIC too
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
UNREAD = {b"%PDF": "a PDF", b"8BPS": "a Photoshop file", b"<svg": "an SVG", b"<?xml": "an SVG"}
RAW_MAGIC = (  # Olympus, Panasonic, Fujifilm, Minolta and Sigma; Canon's CR3 and CR2 have theirs further on
    *(b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"\0MRM", b"FOVb"),
)
RAW_PHOTOMETRIC = (32803, 34892)  # what a sensor sees through its filters; the same, made into colours
RAW_COMPRESSION = (32767, 32770, 34713, 65535)  # Sony's, Samsung's, Nikon's and Pentax's own
RAW = "The file is a camera's raw file: export it as JPEG."
UNENDED = "unended"
"""In the `info` of an image: the bytes of a JPEG without its end marker, for `jpeg.check_whole`."""
SIZE_BOX = re.compile(rb"ispe\0{4}(.{8})", re.DOTALL)


@dataclass(frozen=True)
class Limits:
    """The pictures that `decode` takes: bytes of the file, pixels in all, pixels of the shorter and the longer side.

    The defaults take what phones write: JPEGs of 48 megapixels and 10 to 25 MB, panoramas of 16,000 pixels.
    """

    max_bytes: int = 32_000_000
    max_pixels: int = 50_000_000
    min_side: int = MIN_SIDE
    max_side: int = 16_383
    """The longest side of a WebP: every picture that is taken can be answered in every format."""

    def hold(self, width: int, height: int) -> bool:
        """Whether a picture is within these limits, by its pixels."""
        longer, shorter = max(width, height), min(width, height)
        return width * height <= self.max_pixels and self.min_side <= shorter and longer <= self.max_side


DEFAULT_LIMITS = Limits()
OWN = Limits(max_bytes=10**9, max_pixels=10**9, max_side=10**9)
"""For files that are the user's own, or that passed the limits before."""


def check(data: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    """Pillow's name of the format, by the first bytes alone.

    Raises `UnsupportedFormat`; `BadPicture` for an empty file; `TooLarge` for one over `max_bytes`.
    """
    _check_bytes(data, limits)
    return _kind(data)


def is_picture(name: str) -> bool:
    """Whether a file in a folder or an archive is a picture by its name. Hidden ones are not: macOS puts a `._cat.jpg`
    of its own beside each `cat.jpg`."""
    return PurePath(name).suffix.lower() in SUFFIXES and not PurePath(name).name.startswith(".")


@contextmanager
def opened(data: bytes, kind: str, limits: Limits = DEFAULT_LIMITS) -> Iterator[Image.Image]:
    """An image of which no more than the header has been read, within `limits`. A JPEG over them is decoded at half its
    size, if that is within them.

    Whatever goes wrong, there or in the block under it, is raised as `BadPicture`, with the cause.
    """
    sent = data
    if kind == "JPEG":
        jpeg.check_scans(data)
        data = jpeg.ended(data)
    if kind == "PNG":
        _check_chunks(data)
    if kind in ("HEIF", "AVIF"):
        _check_boxes(data, limits)
    # Not `catch_warnings`: it swaps the state of the whole process, and many threads decode at once.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        if kind == "TIFF" and _is_raw(data):
            raise UnsupportedFormat(RAW)
        with np.errstate(all="ignore"), Image.open(io.BytesIO(data), formats=[kind]) as image:
            if kind == "JPEG" and not limits.hold(*image.size) and limits.hold(*(-(-side // 2) for side in image.size)):
                jpeg.halve(image)
            if data is not sent:
                image.info[UNENDED] = sent
            _check_header(image, limits)
            if profile := colour.profile_by_numbers(image, data):
                image.info["icc_profile"] = profile
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
        side = isqrt(limit * longer // shorter)
        side = min(side, limit // min(fit(longer, shorter, side)), limits.max_side)
        message = (
            f"{width:,} x {height:,} are {pixels:,} pixels; the limit is {limit:,}. "
            f"Scale the picture down before you send it, its longer side to {side:,} at most."
        )
        raise TooLarge(message, limit=limit, actual=pixels, scale_to=side)
    if longer > limits.max_side:
        message = (
            f"{width:,} x {height:,} pixels: the longer side may have {limits.max_side:,}. "
            "Scale the picture down before you send it."
        )
        raise TooLarge(message, limit=limits.max_side, actual=longer, scale_to=limits.max_side)


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
    if data.startswith(RAW_MAGIC) or data[4:12] == b"ftypcrx " or (data[:2] in (b"II", b"MM") and data[8:10] == b"CR"):
        raise UnsupportedFormat(RAW)
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


def _check_chunks(data: bytes) -> None:
    """Raise `BadPicture` for too many chunks: a few hundred thousand empty ones take Pillow seconds."""
    position = len(MAGIC["PNG"][0])
    for _ in range(MAX_CHUNKS):
        if position >= len(data):
            return
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    raise BadPicture(f"The PNG has over {MAX_CHUNKS:,} chunks. Save it anew.", limit=MAX_CHUNKS)


def _check_boxes(data: bytes, limits: Limits) -> None:
    """Check every size in a HEIC or AVIF: the picture may be a small crop of something huge."""
    for size in set(SIZE_BOX.findall(data)):
        width, height = struct.unpack(">II", size)
        check_pixels(width, height, replace(limits, min_side=1))


def _check_header(image: Image.Image, limits: Limits) -> None:
    check_pixels(*image.size, limits)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and TiffImagePlugin.TILEWIDTH in image.tag_v2:
        # libtiff decodes a tile whole, however little of it the picture shows.
        width, height = image.tag_v2[TiffImagePlugin.TILEWIDTH], image.tag_v2[TiffImagePlugin.TILELENGTH]
        check_pixels(width, height, replace(limits, min_side=1))


def _is_raw(data: bytes) -> bool:
    """Whether a TIFF's first directory is a thumbnail, as in NEF, ARW and most DNG, or what a sensor saw."""
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if data[2:4] in (b"+\0", b"\0+") else 8])
    file = io.BytesIO(data)
    file.seek(tags.next or 0)
    tags.load(file)
    return bool(
        tags.get(ExifTags.Base.NewSubfileType, 0) & 1
        or ExifTags.Base.DNGVersion in tags
        or tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) in RAW_PHOTOMETRIC
        or tags.get(TiffImagePlugin.COMPRESSION) in RAW_COMPRESSION
    )
