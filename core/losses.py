"""The report's losses, in float32 whatever the features are: a Gram matrix in bfloat16 loses digits."""

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 48
"""px: a weave keeps its phase for longer than that, strokes do not."""

BLUR = 16
"""px: wider than a stroke, narrower than a subject."""


def gram(features: Tensor) -> Tensor:
    """Gram matrices (B, N, N) of features (B, N, H, W): `A = F @ F.T / (N * M)`, M = H * W (eq. 1, 4)."""
    b, n, h, w = features.shape
    f = features.float().reshape(b, n, h * w)  # (B, N, M)
    with torch.autocast(features.device.type, enabled=False):  # which would multiply in bfloat16
        return f @ f.transpose(1, 2) / (n * h * w)


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """`MSE(P, F)` (eq. 2) of two sets of features of one shape; a scalar."""
    return F.mse_loss(features.float(), target.float())


def style_loss(features: Tensor, target_gram: Tensor) -> Tensor:
    """`MSE(A, G)` of one layer (eq. 3, 5): features (B, N, H, W) against a Gram matrix (N, N); a scalar."""
    return F.mse_loss(gram(features), target_gram.float().expand(features.shape[0], -1, -1))


def without_border(features: Tensor, margin: int) -> Tensor:
    """Features (B, N, H, W) without `margin` of them at each border: (B, N, H - 2 * margin, W - 2 * margin).

    Not in the report.
    """
    h, w = features.shape[2:]
    return features[..., margin : h - margin, margin : w - margin]


def tiles(features: Tensor, across: int) -> Tensor:
    """Features (B, N, H, W) in `across` parts down and as many across: (B * across^2, N, H // across, W // across).

    Not in the report. A Gram matrix does not say where: a few dark spots with all of a style's texture in them satisfy
    it, and the rest stays empty. That of each part does say.
    """
    b, n, h, w = features.shape
    h, w = h // across, w // across
    parts = features[..., : h * across, : w * across].reshape(b, n, across, h, across, w)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(-1, n, h, w)


def tv_loss(pictures: Tensor) -> Tensor:
    """Total variation of (B, C, H, W): the mean squared difference of neighbours, down plus across; a scalar.

    Not in the report: it takes the place of nothing there, and its weight is 0 unless asked for.
    """
    p = pictures.float()
    down = (p[..., 1:, :] - p[..., :-1, :]).square().mean()
    across = (p[..., :, 1:] - p[..., :, :-1]).square().mean()
    return down + across


def lattice_loss(pictures: Tensor, period: int) -> Tensor:
    """Energy of (B, C, H, W) that repeats every `period` px, down and across, within `WINDOW` px; a scalar.

    Not in the report. Texture in a small map comes out of its enlargement with another strength at each place of the
    period, ReLU makes that another brightness, and there is a weave over all of the painting. What a picture has to
    show is not locked to that grid, and its mean over a window is next to nothing.
    """
    p = pictures.float()
    coarse = F.avg_pool2d(p, period, 1)  # (B, C, H - period + 1, W - period + 1), without what repeats
    h, w = (side // period for side in coarse.shape[2:])
    middle = slice(period // 2, None)
    fine = p[..., middle, middle][..., : h * period, : w * period] - coarse[..., : h * period, : w * period]
    places = F.pixel_unshuffle(fine, period)  # (B, C * period^2, h, w)
    repeated = F.avg_pool2d(places, min(WINDOW // period, h, w))  # (B, C * period^2, windows down, across)
    repeated = repeated.reshape(len(p), p.shape[1], period**2, -1)
    return repeated.var(2, correction=0).mean()


def checkerboard_loss(pictures: Tensor) -> Tensor:
    """Energy of (B, C, H, W) that alternates from pixel to pixel, down a column or across a row, for `WINDOW` px; a
    scalar.

    Not in the report. Other than the lattice, which is the same all over, this can be in strokes alone.
    """
    p = pictures.float()
    return _alternation(p) + _alternation(p.transpose(2, 3))


def _alternation(pictures: Tensor) -> Tensor:
    """Mean square of how much (B, C, H, W) alternates down its columns, within windows as high as they can be."""
    odd = torch.arange(pictures.shape[2], device=pictures.device) % 2
    alternating = pictures * (1 - 2 * odd)[:, None]
    high = min(WINDOW, pictures.shape[2])
    return F.avg_pool2d(alternating, (high, 1)).square().mean()


def excess_loss(pictures: Tensor) -> Tensor:
    """Mean square of what pictures (B, C, H, W) have beyond 0..255; a scalar. Not in the report."""
    p = pictures.float()
    return (p - p.clamp(0, 255)).square().mean()


def brightness_loss(pictures: Tensor, photographs: Tensor) -> Tensor:
    """1 - the correlation of the brightness of (B, 3, H, W) with the photographs', both blurred over `BLUR` px; a
    scalar: 0 where light and dark lie where they did, about 1 where the two have nothing in common, 2 where they are
    reversed.

    Not in the report. It asks for no colours and no contrast, which are the style's: only for a subject that can be
    made out at a glance, where the content layers keep outlines and leave what is between them empty.
    """
    painted, wanted = (_blurred_brightness(p) for p in (pictures, photographs))
    return 1 - F.cosine_similarity(painted, wanted, eps=1e-3).mean()


def _blurred_brightness(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, places), with a mean of 0."""
    p = pictures.float()
    luma = (p * p.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)  # BT.601
    blurred = F.avg_pool2d(luma, BLUR, BLUR // 4).flatten(1)
    return blurred - blurred.mean(1, keepdim=True)


def variance(features: Tensor) -> Tensor:
    """Mean squared distance of features (B, N, H, W) from each channel's mean; a scalar.

    Not in the report: a content term that is divided by it begins near 1.
    """
    return features.float().var((2, 3), correction=0).mean()
