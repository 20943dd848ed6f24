"""Grain: grey noise that some networks are shown with a photograph.

A feed-forward network makes its strokes of the texture that it sees. In an even sky there is none, and it fills it
with the finest pattern that its convolutions can make, a weave of a few pixels; with a grain to start from it paints.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from core.images import Bytes

_TILE = 1024  # px a side; repeats beyond


def grained(rgb: Bytes, deviation: float | None) -> Bytes:
    """uint8 `rgb` (H, W, 3) with normal noise of that deviation, in levels of 0..255, on all channels alike.

    The noise hangs on the place alone: one picture has one painting.
    """
    if not deviation:
        return rgb
    height, width = rgb.shape[:2]
    tile = _tile(deviation)
    noise = tile if height <= _TILE and width <= _TILE else np.tile(tile, (-(-height // _TILE), -(-width // _TILE)))
    noisy: Bytes = np.clip(rgb + noise[:height, :width, None], 0, 255).astype(np.uint8)
    return noisy


@cache
def _tile(deviation: float) -> NDArray[np.int16]:
    normal = np.random.default_rng(0).standard_normal((_TILE, _TILE), dtype=np.float32)
    tile: NDArray[np.int16] = np.rint(normal * deviation).astype(np.int16)
    return tile
