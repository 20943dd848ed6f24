"""The objectives that train a network or move one picture's pixels: ours, and the report's.

Both are asked alike: `loss = objective.of(photographs)`, once for a photograph that stays, and then `loss(paintings)`
gives weighted losses, scalars, and their `total`. Pictures are float32 RGB (B, 3, H, W) in 0..255; convolutions run in
bfloat16 under autocast, what is compared is float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from impasto.core.losses.gram_files import StyleTargets, halved
from impasto.core.losses.recolour import recoloured
from impasto.core.losses.terms import content_loss, excess_loss, style_loss, tv_loss, variance
from impasto.core.nets.squeezenet import SqueezeNet
from impasto.core.nets.vgg import VGG16
from impasto.core.params import STYLE_LAYERS, Weights

DETAIL_LAYER = "relu3_1"

DEPICTED_LAYERS = ("fire3", "fire5", "fire7")

COARSE = 8
"""Side in px of the squares that the coarse picture is averaged over."""

LEAST_SIDE = 8
"""px: a picture gets no smaller on the pyramid, but by its first half."""

LEAST_UNIT = 1e-6
"""Least variance of features that a term is divided by."""

LEAST_CONTRAST = 100.0
"""And of pixels, levels squared: a photograph of one colour has none."""


Loss = Callable[[Tensor], dict[str, Tensor]]
"""Paintings (B, 3, H, W) -> weighted losses, scalars; `total` is what is made small."""


@dataclass(frozen=True, eq=False)
class _Wanted:
    """A photograph, as the objective sees it; the units are variances, which its terms are divided by."""

    coarse: Tensor
    """(B, 3, H/8, W/8): recoloured, and averaged over squares."""
    coarse_unit: Tensor
    detail: Tensor
    """(B, 256, H/8, W/8): `DETAIL_LAYER` at half size."""
    detail_unit: Tensor
    depicted: dict[str, Tensor]
    """By layer, of the photograph without its first `shift` rows and columns."""
    depicted_units: dict[str, Tensor]
    shift: tuple[int, int]
    contrast: Tensor
    """Variance of its pixels."""


class Objective:
    """Ours. In place of the report's deep layers: the style on a pyramid, and three terms that keep the subject.

    - style: Gram matrices of `STYLE_LAYERS` at 1, 1/2, 1/4 … of the size, each over its target's mean square; the sum
      over layers, the mean over scales.
    - coarse: the painting averaged over squares against the photograph in the style's colours, likewise. Without it
      networks fall into two tones that Gram matrices like, and faces drown.
    - depicted: SqueezeNet's `DEPICTED_LAYERS`, their mean. A classifier knows what a face is.
    - detail: VGG16's `DETAIL_LAYER` at half size; at full size it would fight the strokes.
    - tv and excess: total variation, and what leaves 0..255.

    All but the style are over the photograph's variance: 1 is a flat painting.
    """

    TERMS = ("style", "coarse", "depicted", "detail", "tv", "excess")

    def __init__(self, weights: Weights, vgg: VGG16, squeezenet: SqueezeNet, style: StyleTargets) -> None:
        self.weights, self.vgg, self.squeezenet, self.style = weights, vgg, squeezenet, style

    @torch.no_grad()
    def of(self, photographs: Tensor, shift: tuple[int, int] = (0, 0)) -> Loss:
        """The losses, of `TERMS` and in all, of paintings of these photographs.

        `shift` is the rows and columns that the term `depicted` leaves out: its network strides by two in the first
        layer, and the same places judged every time leave a lattice.
        """
        coarse = F.avg_pool2d(recoloured(photographs, self.style.colours), COARSE)
        detail = self.vgg(halved(photographs), [DETAIL_LAYER])[DETAIL_LAYER].float()
        depicted = self._depicted(photographs, shift)
        wanted = _Wanted(
            coarse=coarse,
            coarse_unit=variance(coarse).clamp(min=LEAST_CONTRAST),
            detail=detail,
            detail_unit=variance(detail).clamp(min=LEAST_UNIT),
            depicted=depicted,
            depicted_units=units_of(depicted),
            shift=shift,
            contrast=variance(photographs).clamp(min=LEAST_CONTRAST),
        )
        return partial(self._losses, wanted)

    def _losses(self, wanted: _Wanted, paintings: Tensor) -> dict[str, Tensor]:
        seen = clamped(paintings)
        style, detail = self._style_and_detail(seen)
        depicted = self._depicted(seen, wanted.shift)
        weights = self.weights
        losses = {
            "style": weights.style * style,
            "coarse": weights.coarse * content_loss(F.avg_pool2d(seen, COARSE), wanted.coarse) / wanted.coarse_unit,
            "depicted": weights.depicted * unexplained(depicted, wanted.depicted, wanted.depicted_units),
            "detail": weights.detail * content_loss(detail, wanted.detail) / wanted.detail_unit,
            "tv": weights.tv * tv_loss(seen) / wanted.contrast,
            "excess": weights.excess * excess_loss(paintings) / wanted.contrast,
        }
        return losses | {"total": torch.stack(list(losses.values())).sum()}

    def _style_and_detail(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The style loss, a scalar, and the features of `DETAIL_LAYER` at half size."""
        terms, detail = [], None
        scales = [k for k in range(self.weights.scales) if k < 2 or min(pictures.shape[2:]) >> k >= LEAST_SIDE]
        for scale in scales:
            if scale:
                pictures = halved(pictures)
            grams = self.style.grams[scale]
            features = self.vgg(pictures, STYLE_LAYERS)
            terms += [
                style_loss(features[layer], grams[layer]) / grams[layer].square().mean() for layer in STYLE_LAYERS
            ]
            if scale == 1:
                detail = features[DETAIL_LAYER]
        assert detail is not None
        return torch.stack(terms).sum() / len(scales), detail

    def _depicted(self, pictures: Tensor, shift: tuple[int, int]) -> dict[str, Tensor]:
        """By layer; without those of a small picture that are one place, which has no variance to divide by."""
        down, across = shift
        features = self.squeezenet(pictures[..., down:, across:], DEPICTED_LAYERS)
        return {layer: f for layer, f in features.items() if f.shape[2:].numel() > 1}


@dataclass(frozen=True, eq=False)
class ReportObjective:
    """The report's: `w_c * sum MSE(P, F) + w_s * sum MSE(A, G)` (eq. 2, 3, 5, 6), divided by nothing.

    Algorithm 1's and Algorithm 2's differ in their layers alone. Total variation is not in the report, and weighs 0
    unless asked for.
    """

    content_weight: float
    style_weight: float
    tv_weight: float
    content_layers: tuple[str, ...]
    style_layers: tuple[str, ...]
    vgg: VGG16
    style: StyleTargets

    TERMS = ("content", "style", "tv")

    @torch.no_grad()
    def of(self, photographs: Tensor, shift: tuple[int, int] = (0, 0)) -> Loss:
        """The losses, of `TERMS` and in all, of paintings of these photographs. `shift` is not the report's, and
        ignored."""
        return partial(self._losses, self.vgg(photographs, self.content_layers))

    def _losses(self, wanted: dict[str, Tensor], paintings: Tensor) -> dict[str, Tensor]:
        features = self.vgg(paintings, {*self.content_layers, *self.style_layers})
        grams = self.style.grams[0]
        content = torch.stack([content_loss(features[layer], wanted[layer]) for layer in self.content_layers]).sum()
        style = torch.stack([style_loss(features[layer], grams[layer]) for layer in self.style_layers]).sum()
        losses = {
            "content": self.content_weight * content,
            "style": self.style_weight * style,
            "tv": self.tv_weight * tv_loss(paintings),
        }
        return losses | {"total": torch.stack(list(losses.values())).sum()}


def clamped(paintings: Tensor) -> Tensor:
    """`paintings` within 0..255, as they are seen. The gradient passes as though nothing were cut off: otherwise
    what is beyond would stay there."""
    return paintings + (paintings.clamp(0, 255) - paintings).detach()


def units_of(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """The variance of each layer's features, which their differences are divided by."""
    return {layer: variance(f).clamp(min=LEAST_UNIT) for layer, f in features.items()}


def unexplained(features: dict[str, Tensor], wanted: dict[str, Tensor], units: dict[str, Tensor]) -> Tensor:
    """The squared differences of features over their `units`, the mean over layers; a scalar."""
    return torch.stack([content_loss(f, wanted[layer]) / units[layer] for layer, f in features.items()]).mean()
