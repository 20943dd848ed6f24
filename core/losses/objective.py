"""The objectives that train a network or move one picture's pixels: ours, and the report's.

Both are used alike. `loss = objective.of(photographs)` is computed once; then `loss(paintings)` returns weighted
losses, scalars, and their `total`. Pictures are float32 RGB (B, 3, H, W) in 0..255. Convolutions run in bfloat16 under
autocast; losses are float32.
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
"""px: the pyramid stops before a picture is smaller, but has two scales at least."""

LEAST_UNIT = 1e-6
"""Least variance of features, by which a term is divided."""

LEAST_CONTRAST = 100.0
"""Least variance of pixels, levels squared: a photograph of one colour has none."""


Loss = Callable[[Tensor], dict[str, Tensor]]
"""Paintings (B, 3, H, W) -> weighted losses, scalars. The optimiser minimises `total`."""


@dataclass(frozen=True, eq=False)
class _Wanted:
    """Targets of a photograph. The terms are divided by the units, which are variances."""

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
    """Our objective. The style on a pyramid, and three terms for the subject, replace the report's deep layers.

    - style: Gram matrices of `STYLE_LAYERS` at 1, 1/2, 1/4 … of the size, each over its target's mean square; the sum
      over layers, the mean over scales.
    - coarse: the painting against the photograph in the style's colours, both averaged over squares. Without it
      networks settle on two tones, which match the Gram matrices, and lose faces.
    - depicted: the mean over SqueezeNet's `DEPICTED_LAYERS`. A classifier recognises a face.
    - detail: VGG16's `DETAIL_LAYER` at half size. At full size it would work against the strokes.
    - tv and excess: total variation, and values outside 0..255.

    All terms but the style are divided by the photograph's variance: a flat painting has 1.
    """

    TERMS = ("style", "coarse", "depicted", "detail", "tv", "excess")

    def __init__(self, weights: Weights, vgg: VGG16, squeezenet: SqueezeNet, style: StyleTargets) -> None:
        self.weights, self.vgg, self.squeezenet, self.style = weights, vgg, squeezenet, style

    @torch.no_grad()
    def of(self, photographs: Tensor, shift: tuple[int, int] = (0, 0)) -> Loss:
        """The loss function of paintings of these photographs: each of `TERMS`, and the total.

        `shift` is the rows and columns that the term `depicted` leaves out. Its network's first layer has a stride of
        two, and without shifts that leaves a lattice.
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
        """Features by layer. A layer with a single position is left out: it has no variance to divide by."""
        down, across = shift
        features = self.squeezenet(pictures[..., down:, across:], DEPICTED_LAYERS)
        return {layer: f for layer, f in features.items() if f.shape[2:].numel() > 1}


@dataclass(frozen=True, eq=False)
class ReportObjective:
    """The report's objective: `w_c * sum MSE(P, F) + w_s * sum MSE(A, G)` (eq. 2, 3, 5, 6).

    Algorithm 1's and Algorithm 2's differ in their layers alone. Total variation is not in the report; its weight is 0
    by default.
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
        """The loss function of paintings of these photographs: each of `TERMS`, and the total. `shift` is ignored."""
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
    """Clip `paintings` to 0..255. The gradient passes unclipped; otherwise values outside would stay outside."""
    return paintings + (paintings.clamp(0, 255) - paintings).detach()


def units_of(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """The variance of each layer's features, at least `LEAST_UNIT`."""
    return {layer: variance(f).clamp(min=LEAST_UNIT) for layer, f in features.items()}


def unexplained(features: dict[str, Tensor], wanted: dict[str, Tensor], units: dict[str, Tensor]) -> Tensor:
    """Squared differences of features, divided by their `units`; the mean over layers, a scalar."""
    return torch.stack([content_loss(f, wanted[layer]) / units[layer] for layer, f in features.items()]).mean()
