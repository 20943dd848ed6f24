"""Bytes to picture, picture to bytes, and pictures of another size.

`decode` checks a file with `core.pictures.guard`, then reads its pixels (`pixels`). `core.pictures.sandbox` does the
same in a process that may die of it. `encode` writes an array, so no comment, place, thumbnail or profile of the input
can be in its output.
"""

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

from impasto.core.errors import BadParameter, BadPicture, NotFound
from impasto.core.pictures.alpha import spread_colours
from impasto.core.pictures.colour import in_mode, to_srgb
from impasto.core.pictures.guard import (
    DEFAULT_LIMITS,
    OWN,
    UNENDED,
    Limits,
    check,
    check_pixels,
    fit,
    opened,
    with_short_side,
)
from impasto.core.pictures.jpeg import check_whole

Format = Literal["png", "jpeg", "webp"]
Bytes = NDArray[np.uint8]
MEDIA_TYPES: dict[Format, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
SAVE_OPTIONS = {
    "png": {"compress_level": 1},
    "jpeg": {"quality": 95, "subsampling": 0},  # 4:4:4
    "webp": {"quality": 90, "method": 1},  # methods 0..6, from quick to small
}
FAINT = 16  # alpha, of 255: where Lanczos leaves less, its negative weights make up the colour
MAX_SIDE = {"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383}  # pixels, from libpng, libjpeg and libwebp


@dataclass(frozen=True, eq=False)
class Picture:
    """`rgb`: uint8 (H, W, 3), sRGB; of a decoded picture its transparent pixels have colours of the visible ones near
    them. `alpha`: uint8 (H, W), 255 is opaque, or None."""

    rgb: Bytes
    alpha: Bytes | None = None

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])


def _new(shape: tuple[int, ...]) -> Bytes:
    return np.empty(shape, np.uint8)


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Reads a picture: upright by its EXIF, in sRGB by its ICC profile, 8 bits a channel, alpha kept.

    An animation gives its first frame, a JPEG over the limits half of its size. Raises `UnsupportedFormat`; `TooLarge`
    with `limit`, `actual` and, for pixels, `scale_to`; `BadPicture` for a file that is empty, broken, cut short or
    smaller than `min_side`.
    """
    with opened(data, check(data, limits), limits) as image:
        return pixels(image, limits)


def pixels(
    image: Image.Image, limits: Limits = DEFAULT_LIMITS, new: Callable[[tuple[int, ...]], Bytes] = _new
) -> Picture:
    """The picture of an image that was opened, in arrays that `new` makes by their shape."""
    image.load()
    if unended := image.info.get(UNENDED):
        check_whole(image, unended)
    check_pixels(*image.size, limits)  # a HEIC's size may change while it is decoded
    with suppress(Exception):  # broken EXIF is no reason to refuse a picture
        ImageOps.exif_transpose(image, in_place=True)
    colours, alpha = _split(image)
    rgb = _array(to_srgb(colours, image.info.get("icc_profile")), new)
    if alpha is None:
        return Picture(rgb)
    opacity = _array(alpha, new)
    spread_colours(rgb, opacity)
    return Picture(rgb, opacity)


def read_picture(path: Path) -> Picture:
    """Read and decode the user's own file at `path`, of any size. Raises what `read_file` and `decode` raise."""
    return decode(read_file(path), OWN)


def read_file(path: Path) -> bytes:
    """Read the bytes of a picture. Raises NotFound where there is none, BadPicture where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"There is no picture at {path}.") from error
    except OSError as error:
        raise BadPicture(f"{path} cannot be read: {error.strerror}.") from error


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


def resize(array: Bytes, height: int, width: int) -> Bytes:
    """Lanczos, on the sRGB values as they are: uint8 (H, W, 3) or (H, W) -> the same at height x width."""
    return np.array(_lanczos(array, height, width))


def shrink(picture: Picture, max_side: int) -> Picture:
    """`picture` with no side over `max_side`, alpha and all; itself where it is small enough."""
    return resized(picture, *fit(picture.height, picture.width, max_side))


def resized(picture: Picture, height: int, width: int) -> Picture:
    """`picture` at height x width, itself where that is its size. Colours are premultiplied by alpha meanwhile."""
    if (height, width) == (picture.height, picture.width):
        return picture
    if picture.alpha is None:
        return Picture(resize(picture.rgb, height, width))
    # In floats: rounded and cut off at 255, a colour would not come back from its product.
    alpha = picture.alpha.astype(np.float32)
    weight = np.asarray(_lanczos(alpha, height, width))
    opacity, rgb = _rounded(weight), np.empty((height, width, 3), np.uint8)
    for channel in range(3):
        product = np.asarray(_lanczos(picture.rgb[..., channel] * alpha, height, width))
        rgb[..., channel] = _rounded(product / np.maximum(weight, 1))
    spread_colours(rgb, opacity, min(FAINT, int(opacity.max()) or 1))
    return Picture(rgb, opacity)


def _lanczos(array: NDArray[Any], height: int, width: int) -> Image.Image:
    # The gap lets Pillow average whole blocks first, down to three times the size: quicker, looks the same.
    return Image.fromarray(array).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _rounded(levels: NDArray[np.float32]) -> Bytes:
    rounded: Bytes = np.clip(levels + 0.5, 0, 255).astype(np.uint8)
    return rounded


def resize_short(rgb: Bytes, size: int) -> Bytes:
    """A style's picture with its shorter side at `size` px: Lanczos over all pixels, uint8 (H, W, 3) -> the same."""
    height, width = with_short_side(rgb.shape[0], rgb.shape[1], size)
    return np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS))


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
        image = in_mode(image, "LA" if grey else "RGBA")
        return in_mode(image, "L" if grey else "RGB"), image.getchannel("A")
    return (image if image.mode == "CMYK" else in_mode(image, "L" if grey else "RGB")), None


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
