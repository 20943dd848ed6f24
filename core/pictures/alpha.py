"""Colours of transparent pixels: nobody sees them, and networks do."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COARSE = 256
"""Blocks on the long side that colours are spread over: the nearest are those of an edge, and further ones a mean."""


def spread_colours(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8], least: int = 1) -> None:
    """Give the transparent pixels of `rgb`, uint8 (H, W, 3), colours of the visible ones near them, in place.

    `alpha` is uint8 (H, W); from `least` on, a pixel is visible and stays as it is. What lies under the transparent
    ones makes no difference.
    """
    if alpha.min() >= least:
        return
    height, width = alpha.shape
    block = -(-max(height, width) // COARSE)
    coarse = Image.fromarray(_spread(*_blocks(rgb, np.where(alpha < least, 0, alpha), block)))
    for top in range(0, height, 64):
        bottom = min(top + 64, height)
        box = (0, top / block, width / block, bottom / block)
        near = coarse.resize((width, bottom - top), Image.Resampling.BILINEAR, box)
        hidden = alpha[top:bottom] < least
        rgb[top:bottom][hidden] = np.asarray(near)[hidden]


def _blocks(
    rgb: NDArray[np.uint8], alpha: NDArray[np.uint8], block: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The sums of colours times alpha (h, w, 3), and of alpha (h, w, 1), of each block of so many pixels a side."""
    colours, weights = [], []
    for top in range(0, alpha.shape[0], block):
        weight = alpha[top : top + block].sum(0, dtype=np.float32)[:, None]  # (W, 1)
        colour = np.einsum("hwc,hw->wc", rgb[top : top + block], alpha[top : top + block], dtype=np.float32)
        starts = np.arange(0, len(weight), block)
        weights.append(np.add.reduceat(weight, starts))
        colours.append(np.add.reduceat(colour, starts))
    return np.stack(colours), np.stack(weights)


def _spread(colours: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blocks that have no weight take the mean of those around them; white where nothing at all is visible.

    Pull and push: halve until there is one block, then fill each size from the next smaller one.
    """
    height, width, _ = weights.shape
    if height == width == 1:
        mean = colours / weights if weights.any() else np.full((1, 1, 3), 255.0)
        return (mean + 0.5).astype(np.uint8)
    even = ((0, height % 2), (0, width % 2), (0, 0))
    halves = [
        np.pad(array, even).reshape((height + 1) // 2, 2, (width + 1) // 2, 2, -1).sum((1, 3))
        for array in (colours, weights)
    ]
    smaller = Image.fromarray(_spread(*halves))
    box = (0, 0, width / 2, height / 2)
    around = np.array(smaller.resize((width, height), Image.Resampling.BILINEAR, box))
    seen = weights[..., 0] > 0
    around[seen] = (colours[seen] / weights[seen] + 0.5).astype(np.uint8)
    return around
