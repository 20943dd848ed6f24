"""A photograph in the colours of a style: the Monge-Kantorovich map between two normal distributions of colours."""

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_SPREAD = 20.0
"""Levels squared, added to a photograph's covariance: a grey one has no spread to turn into colours."""


@dataclass(frozen=True, eq=False)
class Colours:
    """Mean (3,) and covariance (3, 3) of an image's RGB, levels of 0..255, float32."""

    mean: Tensor
    covariance: Tensor


def colours_of(picture: Tensor) -> Colours:
    """Those of one picture, (3, H, W) in 0..255."""
    values = picture.float().flatten(1)  # (3, M)
    mean = values.mean(1)
    centred = values - mean[:, None]
    return Colours(mean, centred @ centred.T / values.shape[1])


def recoloured(pictures: Tensor, colours: Colours) -> Tensor:
    """(B, 3, H, W) -> (B, 3, H, W), each with that mean and covariance, and not clipped to 0..255.

    `x -> T (x - m) + m_s` with `T = C^-1/2 (C^1/2 C_s C^1/2)^1/2 C^-1/2`, m and C the picture's own: of all linear
    maps that give it the style's colours the one that moves its own the least.
    """
    with torch.autocast(pictures.device.type, enabled=False):  # in bfloat16 a grey picture's covariance has no root
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
