"""The terms of every objective. All compute in float32: a Gram matrix in bfloat16 loses digits."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def gram(features: Tensor) -> Tensor:
    """Gram matrices (B, N, N) of features (B, N, H, W): `A = F @ F.T / (N * M)`, M = H * W (eq. 1, 4)."""
    return _Gram.apply(features)  # type: ignore[no-any-return]


class _Gram(torch.autograd.Function):
    """`gram` with a gradient of one matrix product. Autograd computes two, in two layouts, and adds them: a fifth of a
    training step."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        b, n, h, w = features.shape
        f = features.permute(0, 2, 3, 1).reshape(b, h * w, n)  # (B, M, N), no copy in channels_last
        ctx.save_for_backward(f)
        ctx.shape = features.shape
        with torch.autocast(features.device.type, enabled=False):  # which would multiply in bfloat16
            exact = f.float()
            return exact.transpose(1, 2) @ exact / (n * h * w)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (f,) = ctx.saved_tensors
        b, n, h, w = ctx.shape
        both = (gradients[0] + gradients[0].transpose(1, 2)) / (n * h * w)  # (B, N, N)
        with torch.autocast(f.device.type, enabled=False):
            gradient: Tensor = f @ both.to(f.dtype)
        return gradient.reshape(b, h, w, n).permute(0, 3, 1, 2)


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """`MSE(P, F)` (eq. 2) of two sets of features of one shape; a scalar."""
    return F.mse_loss(features.float(), target.float())


def style_loss(features: Tensor, target_gram: Tensor) -> Tensor:
    """`MSE(A, G)` of one layer (eq. 3, 5): features (B, N, H, W) against a Gram matrix (N, N); a scalar."""
    return F.mse_loss(gram(features), target_gram.float().expand(features.shape[0], -1, -1))


def tv_loss(pictures: Tensor) -> Tensor:
    """Total variation of (B, C, H, W): the mean squared difference of neighbours, down plus across; a scalar.

    Not in the report.
    """
    p = pictures.float()
    down = (p[..., 1:, :] - p[..., :-1, :]).square().mean()
    across = (p[..., :, 1:] - p[..., :, :-1]).square().mean()
    return down + across


def excess_loss(pictures: Tensor) -> Tensor:
    """Mean square of the distance of pictures (B, C, H, W) from 0..255; a scalar. Not in the report."""
    p = pictures.float()
    return (p - p.clamp(0, 255)).square().mean()


def variance(features: Tensor) -> Tensor:
    """Mean squared distance of features (B, N, H, W) from each channel's mean; a scalar.

    Not in the report. A term divided by it is 1 for a flat picture, in every layer.
    """
    return features.float().var((2, 3), correction=0).mean()
