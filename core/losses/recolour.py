"""A photograph in the colours of a style: the Monge-Kantorovich map between two normal distributions of colours."""

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_SPREAD = 20.0
"""Levels squared, added to a photograph's covariance, as a grey photograph has no spread of colours."""


@dataclass(frozen=True, eq=False)
class Colours:
    """Mean (3,) and covariance (3, 3) of an image's RGB, levels of 0..255, float32."""

    mean: Tensor
    covariance: Tensor


def colours_of(picture: Tensor) -> Colours:
    """Compute the colours of one picture, (3, H, W) in 0..255."""
    values = picture.float().flatten(1)  # (3, M)
    mean = values.mean(1)
    centred = values - mean[:, None]
    return Colours(mean, centred @ centred.T / values.shape[1])


def recoloured(pictures: Tensor, colours: Colours) -> Tensor:
    """Give each of (B, 3, H, W) that mean and covariance. Values are not clipped to 0..255.

    `x -> T (x - m) + m_s` with `T = C^-1/2 (C^1/2 C_s C^1/2)^1/2 C^-1/2`; m and C are the picture's own. Of all linear
    maps to the style's colours this one changes the picture's colours the least.
    """
    # bfloat16 is too coarse for the root of a grey picture's covariance.
    with torch.autocast(pictures.device.type, enabled=False):
        return torch.stack([_recoloured(picture, colours) for picture in pictures])


def _recoloured(picture: Tensor, colours: Colours) -> Tensor:
    own = colours_of(picture)
    root = _root(own.covariance + LEAST_SPREAD * torch.eye(3, device=picture.device))
    inverse = torch.linalg.inv(root)
    transform = inverse @ _root(root @ colours.covariance @ root) @ inverse  # (3, 3)
    centred = picture.float().flatten(1) - own.mean[:, None]
    pixels: Tensor = transform @ centred + colours.mean[:, None]
    return pixels.reshape(picture.shape)


def _root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric matrix without negative eigenvalues, but for rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    return root
