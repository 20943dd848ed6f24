"""Bytes to picture, picture to bytes: everything that touches a picture file is here.

A file from outside is hostile until decoded. `decode` looks at cheap things before costly ones: its length,
its first bytes (`check`), the scans of a JPEG, the size in its header (`opened`), and only then its pixels (`pixels`).
`core.cage` does the last two in a process that may die of it. What leaves through `encode` was made from an array, so
no comment, place, thumbnail or profile of the input can be in it.
"""

import io
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any, Literal

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from core.errors import BadParameter, BadPicture, ImpastoError, TooLarge, UnsupportedFormat
from core.names import MIN_SIDE

# Pillow's limit is one for the process and names no numbers when it is met; `Limits` is ours, for each call.
Image.MAX_IMAGE_PIXELS = None
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)

Format = Literal["png", "jpeg", "webp"]
Bytes = NDArray[np.uint8]
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif", ".avif"))
READABLE = "JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC or AVIF"
MAX_SCANS = 64  # cameras and tools write 1 to 10
MAX_PARTS = 10_000  # segments of a JPEG up to its last scan, or chunks of a PNG: a few thousand are many
SAVE_OPTIONS = {
    "png": {"compress_level": 1},
    "jpeg": {"quality": 95, "subsampling": 0},  # 4:4:4
    "webp": {"quality": 90, "method": 1},  # methods 0..6, from quick to small
}
MAX_SIDE = {"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383}  # pixels, from libpng, libjpeg and libwebp
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
PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC colour space -> Pillow's mode


@dataclass(frozen=True, eq=False)
class Picture:
    """`rgb`: uint8 (H, W, 3), sRGB. `alpha`: uint8 (H, W), 255 is opaque, or None."""

    rgb: Bytes
    alpha: Bytes | None = None

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])


@dataclass(frozen=True)
class Limits:
    """What `decode` takes: bytes of the file, pixels in all, pixels on the shorter and on the longer side."""

    max_bytes: int = 16_000_000
    max_pixels: int = 24_000_000
    min_side: int = MIN_SIDE
    max_side: int = 8192


DEFAULT_LIMITS = Limits()
OWN = Limits(max_bytes=10**9, max_pixels=10**9, max_side=10**9)
"""For files that are the user's own, or that passed the limits before."""


def _new(shape: tuple[int, ...]) -> Bytes:
    return np.empty(shape, np.uint8)


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Reads a picture: upright by its EXIF, in sRGB by its ICC profile, 8 bits a channel, alpha kept.

    An animation gives its first frame. Raises `UnsupportedFormat`; `TooLarge` with `limit`, `actual` and, for
    pixels, `max_side`; `BadPicture` for a file that is empty, broken, cut short or smaller than `min_side`.
    """
    with opened(data, check(data, limits), limits) as image:
        return pixels(image, limits)


def check(data: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    """Pillow's name of the format, by the first bytes alone. Raises as `decode`."""
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


def pixels(
    image: Image.Image, limits: Limits = DEFAULT_LIMITS, new: Callable[[tuple[int, ...]], Bytes] = _new
) -> Picture:
    """The picture of an image that was opened, in arrays that `new` makes by their shape."""
    image.load()
    _check_pixels(*image.size, limits)  # a HEIC's size may change while it is decoded
    with suppress(Exception):  # broken EXIF is no reason to refuse a picture
        ImageOps.exif_transpose(image, in_place=True)
    colours, alpha = _split(image)
    rgb = _to_srgb(colours, image.info.get("icc_profile"))
    return Picture(_array(rgb, new), None if alpha is None else _array(alpha, new))


def encode(picture: Picture, format: Format, **options: int) -> bytes:
    """Writes pixels and nothing else. PNG and WebP keep alpha; JPEG is composited on white.

    `options` are Pillow's, over `SAVE_OPTIONS`.
    Raises `BadParameter` for an unknown format, or a side longer than the format can hold.
    """
    if format not in MEDIA_TYPES:
        raise BadParameter(f"No output format {format!r}: choose one of {', '.join(MEDIA_TYPES)}.")
    side, limit = max(picture.height, picture.width), MAX_SIDE[format]
    if side > limit:
        message = f"A {format} holds {limit:,} pixels a side, the picture has {side:,}. Ask for png."
        raise BadParameter(message, limit=limit, actual=side)
    image = Image.fromarray(picture.rgb)
    if picture.alpha is not None:
        alpha = Image.fromarray(picture.alpha)
        if format == "jpeg":
            image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
        else:
            image.putalpha(alpha)
    buffer = io.BytesIO()
    image.save(buffer, format, **SAVE_OPTIONS[format] | options)
    return buffer.getvalue()


def fit(height: int, width: int, max_side: int) -> tuple[int, int]:
    """(height, width) at the same aspect ratio, no side over `max_side`: never enlarged, 1 at least."""
    longest = max(height, width)
    if longest <= max_side:
        return height, width
    return max(1, round(height * max_side / longest)), max(1, round(width * max_side / longest))


def resize(array: Bytes, height: int, width: int) -> Bytes:
    """Lanczos, on the sRGB values as they are: uint8 (H, W, 3) or (H, W) -> the same at height x width."""
    # The gap lets Pillow average whole blocks first, down to three times the size: quicker, looks the same.
    image = Image.fromarray(array).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.array(image)


def shrink(picture: Picture, max_side: int) -> Picture:
    """`picture` with no side over `max_side`, alpha and all; itself where it is small enough."""
    height, width = fit(picture.height, picture.width, max_side)
    if (height, width) == (picture.height, picture.width):
        return picture
    return Picture(
        resize(picture.rgb, height, width), None if picture.alpha is None else resize(picture.alpha, height, width)
    )


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
        _check_pixels(width, height, replace(limits, min_side=1))


def _check_header(image: Image.Image, limits: Limits) -> None:
    _check_pixels(*image.size, limits)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and TiffImagePlugin.TILEWIDTH in image.tag_v2:
        # libtiff decodes a tile whole, however little of it the picture shows.
        width, height = image.tag_v2[TiffImagePlugin.TILEWIDTH], image.tag_v2[TiffImagePlugin.TILELENGTH]
        _check_pixels(width, height, replace(limits, min_side=1))


def _check_pixels(width: int, height: int, limits: Limits) -> None:
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


def _array(image: Image.Image, new: Callable[[tuple[int, ...]], Bytes]) -> Bytes:
    """L or RGB -> `np.array(image)`, writable; in bands that stay in the cache it takes half the time."""
    width, height = image.size
    array = new((height, width, 3) if image.mode == "RGB" else (height, width))
    for top in range(0, height, 64):
        array[top : top + 64] = np.asarray(image.crop((0, top, width, min(top + 64, height))))
    return array


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Any mode -> colours in L, RGB or CMYK with 8 bits a channel, and alpha in L or None."""
    if image.mode.startswith("I") or image.mode == "F":
        levels, key = np.asarray(image), image.info.get("transparency")  # a PNG's grey that is transparent
        alpha = None if key is None else Image.fromarray(np.where(levels == key, 0, 255).astype(np.uint8))
        return Image.fromarray(_scaled(image, levels)), alpha
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = _in_mode(image, "LA" if grey else "RGBA")
        return _in_mode(image, "L" if grey else "RGB"), image.getchannel("A")
    return (image if image.mode == "CMYK" else _in_mode(image, "L" if grey else "RGB")), None


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """`convert`, which would copy where there is nothing to convert."""
    return image if image.mode == mode else image.convert(mode)


def _scaled(image: Image.Image, levels: NDArray[Any]) -> Bytes:
    """Grey of 16 bits, 32 bits or float, (H, W) -> uint8 (H, W). Scales, never clips.

    16 bits have a range: 0..65535, or 0..4095 in a 12-bit TIFF. 32 bits and floats state none: it is
    the first of 0..1 (floats), 0..255 and 0..65535 (integers) that holds every value, or darkest..brightest.
    """
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    levels = levels.astype(np.float32)
    if image.mode.startswith("I;16"):
        low, high = 0.0, 4095.0 if tags.get(TiffImagePlugin.BITSPERSAMPLE) == (12,) else 65535.0
    else:
        finite = levels[np.isfinite(levels)]
        low, high = float(finite.min()), float(finite.max())
        np.nan_to_num(levels, copy=False, nan=low, posinf=high, neginf=low)
        tops = [top for top in ([1.0] if image.mode == "F" else [255.0, 65535.0]) if high <= top]
        if low >= 0 and tops:
            low, high = 0.0, tops[0]
    levels -= low
    levels *= 255 / (high - low or 1)
    scaled = (levels + 0.5).astype(np.uint8)
    # Pillow itself turns WhiteIsZero round for 8 bits and fewer only.
    return 255 - scaled if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0 else scaled


def _to_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """L, RGB or CMYK -> RGB in sRGB. A profile that is broken, or for other channels, is as none."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            mode = PROFILE_MODES[source.profile.xcolor_space]
            if (image.mode, mode) == ("L", "RGB"):  # grey saved with the profile of the screen is common
                image = _in_mode(image, mode)
            transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
            if image.mode == mode and not (mode == "RGB" and _changes_nothing(transform)):
                return transform.apply(image)
        except MemoryError:
            raise
        except Exception:
            pass
    return _in_mode(image, "RGB")


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether the profile is sRGB by what it does to 729 colours: names differ, and lie."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    moved = np.asarray(transform.apply(Image.fromarray(colours)))
    return bool(np.abs(moved.astype(int) - colours).max() <= 1)
