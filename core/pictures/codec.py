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
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from impasto.core.errors import BadParameter, BadPicture, NotFound
from impasto.core.pictures.guard import DEFAULT_LIMITS, OWN, Limits, check, check_pixels, fit, opened, with_short_side

Format = Literal["png", "jpeg", "webp"]
Bytes = NDArray[np.uint8]
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
SAVE_OPTIONS = {
    "png": {"compress_level": 1},
    "jpeg": {"quality": 95, "subsampling": 0},  # 4:4:4
    "webp": {"quality": 90, "method": 1},  # methods 0..6, from quick to small
}
MAX_SIDE = {"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383}  # pixels, from libpng, libjpeg and libwebp
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


def _new(shape: tuple[int, ...]) -> Bytes:
    return np.empty(shape, np.uint8)


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Reads a picture: upright by its EXIF, in sRGB by its ICC profile, 8 bits a channel, alpha kept.

    An animation gives its first frame. Raises `UnsupportedFormat`; `TooLarge` with `limit`, `actual` and, for
    pixels, `max_side`; `BadPicture` for a file that is empty, broken, cut short or smaller than `min_side`.
    """
    with opened(data, check(data, limits), limits) as image:
        return pixels(image, limits)


def pixels(
    image: Image.Image, limits: Limits = DEFAULT_LIMITS, new: Callable[[tuple[int, ...]], Bytes] = _new
) -> Picture:
    """The picture of an image that was opened, in arrays that `new` makes by their shape."""
    image.load()
    check_pixels(*image.size, limits)  # a HEIC's size may change while it is decoded
    with suppress(Exception):  # broken EXIF is no reason to refuse a picture
        ImageOps.exif_transpose(image, in_place=True)
    colours, alpha = _split(image)
    rgb = _to_srgb(colours, image.info.get("icc_profile"))
    return Picture(_array(rgb, new), None if alpha is None else _array(alpha, new))


def read_picture(path: Path, limits: Limits = OWN) -> Picture:
    """Read and decode the file at `path`. Raises NotFound where there is none, BadPicture where it cannot be read, and
    what `decode` raises."""
    try:
        return decode(path.read_bytes(), limits)
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
