"""A picture, a painter and what was asked for -> the painting."""

import numpy as np
from PIL import Image

from core.engine import Painter
from core.errors import BadParameter
from core.images import Bytes, Picture, fit, resize
from core.names import MIN_SIDE
from core.recipes import PaintParams


def paint(painter: Painter, picture: Picture, params: PaintParams) -> Picture:
    """The painting of `picture`, of its size or shrunk to `max_side`; alpha is kept.

    The network sees the picture at `paint_size`, and its painting is enlarged again. Raises BadParameter where the
    picture, or what `max_side` leaves of it, is under 16 px a side.
    """
    photo, alpha = picture.rgb, picture.alpha
    if params.max_side:
        size = fit(picture.height, picture.width, params.max_side)
        if min(size) < MIN_SIDE:
            raise BadParameter(
                f"max_side={params.max_side} leaves {size[1]}x{size[0]} px: {MIN_SIDE} a side is the least."
            )
        photo, alpha = resize(photo, *size), None if alpha is None else resize(alpha, *size)
    if params.strength == 0:
        return Picture(photo, alpha)
    painting = _painted(painter, photo, params.paint_size)
    if params.preserve_color:
        painting = with_colors_of(photo, painting)
    if params.strength < 1:
        painting = blend(photo, painting, params.strength)
    return Picture(painting, alpha)


def _painted(painter: Painter, photo: Bytes, paint_size: int | str) -> Bytes:
    """(H, W, 3) -> (H, W, 3), through the network at `paint_size`."""
    height, width = photo.shape[:2]
    if isinstance(paint_size, str):
        return painter(photo)
    seen = [
        max(side, min(MIN_SIDE, full))
        for side, full in zip(fit(height, width, paint_size), (height, width), strict=True)
    ]
    return resize(painter(resize(photo, *seen)), height, width)


def with_colors_of(photo: Bytes, painting: Bytes) -> Bytes:
    """The brightness (luma, BT.601) of `painting` with the colours of `photo`; both (H, W, 3)."""
    luma = Image.fromarray(painting).convert("YCbCr").getchannel(0)
    _, blue, red = Image.fromarray(photo).convert("YCbCr").split()
    return np.array(Image.merge("YCbCr", (luma, blue, red)).convert("RGB"))


def blend(photo: Bytes, painting: Bytes, strength: float) -> Bytes:
    """`(1 - strength) * photo + strength * painting`, both (H, W, 3)."""
    return np.array(Image.blend(Image.fromarray(photo), Image.fromarray(painting), strength))
