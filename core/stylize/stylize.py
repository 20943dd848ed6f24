"""Paint a picture: resize it for the network, run the network, and resize the painting back."""

import numpy as np
from PIL import Image

from impasto.core.errors import BadParameter, TooLarge
from impasto.core.names import ARCHES, MIN_SIDE
from impasto.core.paint_params import MAX_PAINTED, PaintParams
from impasto.core.pictures.codec import Bytes, Picture, resize, resized, shrink
from impasto.core.stylize.engine import Painter


def paint(painter: Painter, picture: Picture, params: PaintParams, max_painted: int = MAX_PAINTED) -> Picture:
    """Paint `picture`, at its own size or shrunk to `max_side`, with its own alpha.

    The network sees the picture at `paint_size`; its painting is resized back. Raises BadParameter where the picture,
    or the picture shrunk to `max_side`, has a side under 16 px; TooLarge where the network would see more than
    `max_painted` pixels, with the largest `paint_size` that fits.
    """
    if params.max_side:
        picture = shrink(picture, params.max_side)
        if min(picture.height, picture.width) < MIN_SIDE:
            raise BadParameter(
                f"max_side={params.max_side} shrinks the picture to {picture.width}x{picture.height} px. "
                f"A side must have {MIN_SIDE} px or more."
            )
    photo, alpha = picture.rgb, picture.alpha
    if params.strength == 0:
        return Picture(photo, alpha)
    height, width = seen(photo.shape[0], photo.shape[1], params.paint_size, params.arch)
    check_painted(height, width, max_painted)
    painting = resize(painter(resized(picture, height, width).rgb), photo.shape[0], photo.shape[1])
    if params.preserve_color:
        painting = with_colors_of(photo, painting)
    if params.strength < 1:
        painting = blend(photo, painting, params.strength)
    return Picture(painting, alpha)


def seen(height: int, width: int, paint_size: int | str, arch: str) -> tuple[int, int]:
    """Height and width that the network sees: `paint_size` on the long side, but at most `scale` times the picture's
    own (`ARCHES`); 16 px at least."""
    if isinstance(paint_size, str):
        return height, width
    longer = max(height, width)
    side = min(paint_size, ARCHES[arch].scale * longer)
    down, across = (max(round(own * side / longer), min(MIN_SIDE, own)) for own in (height, width))
    return down, across


def check_painted(height: int, width: int, most: int) -> None:
    """Raises TooLarge where the network would see more than `most` pixels, with the largest `paint_size` that fits."""
    if height * width > most:
        side = int(max(height, width) * (most / (height * width)) ** 0.5)
        raise TooLarge(
            f"The network would see {width}x{height} pixels, and the limit is {most:,}. "
            f"Ask for paint_size={side}: the painting still has the picture's full size.",
            limit=most,
            actual=height * width,
            paint_size=side,
        )


def with_colors_of(photo: Bytes, painting: Bytes) -> Bytes:
    """The brightness (luma, BT.601) of `painting` with the colours of `photo`; both (H, W, 3)."""
    luma = Image.fromarray(painting).convert("YCbCr").getchannel(0)
    _, blue, red = Image.fromarray(photo).convert("YCbCr").split()
    return np.array(Image.merge("YCbCr", (luma, blue, red)).convert("RGB"))


def blend(photo: Bytes, painting: Bytes, strength: float) -> Bytes:
    """`(1 - strength) * photo + strength * painting`, both (H, W, 3)."""
    return np.array(Image.blend(Image.fromarray(photo), Image.fromarray(painting), strength))
