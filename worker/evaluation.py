"""How well a model paints, in figures, on photographs that it was not trained on: of what `/stylize` gives."""

from collections.abc import Iterable

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from core.checkpoints import Card
from core.engine import Painter
from core.images import Bytes, Picture
from core.losses import content_loss, style_loss, variance
from core.paint import paint
from core.recipes import STYLE_LAYERS, PaintParams
from core.styles import StyleTargets
from core.vgg import VGG16
from worker.objective import Objective

CONTENT_LAYER = "relu2_2"
SUBJECT_LAYER = "relu4_2"
"""Whose features say what is in a picture, whatever it is painted with."""


class Evaluation(BaseModel):
    """Means over `photographs`. A perfect copy of the style has a style loss of 0, of the photograph a content of 0."""

    photographs: int
    style_before: dict[str, float]
    """Of the photograph, by layer: the style loss over the mean square of the target's Gram matrix."""
    style_after: dict[str, float]
    """The same of the painting."""
    content: float
    """Content loss at relu2_2 over the variance of the photograph's features."""
    correlation: float
    """Of the painting's relu4_2 features with the photograph's, each channel less its mean. Of another photograph's
    painting it is about 0.04."""
    checkerboard: float
    """Energy of the painting at the Nyquist frequency, over the photograph's."""
    shares: dict[str, float]
    """The content's and the style's part of the total loss, weighted as in training (the report's fig. 6)."""

    @property
    def style_left(self) -> float:
        """What is left of the photograph's style loss in the painting, all layers together."""
        return sum(self.style_after.values()) / sum(self.style_before.values())


def evaluate(painter: Painter, card: Card, photographs: Iterable[Bytes], style: StyleTargets, vgg: VGG16) -> Evaluation:
    """The figures of the model of that `card` on photographs, uint8 RGB (H, W, 3) with even sides."""
    objective = Objective(card.params, vgg, style)
    asked = PaintParams(style=card.params.style, arch=card.params.arch)
    rows = []
    for rgb in photographs:
        photograph, painting = _tensor(rgb), _tensor(paint(painter, Picture(rgb), asked).rgb)
        with torch.inference_mode():
            before, after = (vgg(x, {*STYLE_LAYERS, CONTENT_LAYER, SUBJECT_LAYER}) for x in (photograph, painting))
            losses = objective(photograph, painting, card.params.style_weight)
        wanted = before[CONTENT_LAYER]
        rows.append(
            Evaluation(
                photographs=1,
                style_before=_style_losses(before, style),
                style_after=_style_losses(after, style),
                content=(content_loss(after[CONTENT_LAYER], wanted) / variance(wanted)).item(),
                correlation=correlation(before[SUBJECT_LAYER], after[SUBJECT_LAYER]),
                checkerboard=nyquist_energy(painting) / nyquist_energy(photograph),
                shares={name: (losses[name] / losses["total"]).item() for name in ("content", "style")},
            )
        )
    return _mean(rows)


def _tensor(rgb: Bytes) -> Tensor:
    """(1, 3, H, W), 0..255."""
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float()


def correlation(features: Tensor, others: Tensor) -> float:
    """Of two sets of features (1, N, H, W), all channels together, each less its mean: -1 to 1."""
    a, b = (f - f.mean((2, 3), keepdim=True) for f in (features, others))
    return float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-12))


def nyquist_energy(picture: Tensor) -> float:
    """Energy in the row and the column of the spectrum where neighbours alternate, of the mean of the channels.

    `picture`: (1, 3, H, W) with even sides.
    """
    energy = torch.fft.fft2(picture[0].mean(0)).abs().square()  # (H, W)
    height, width = energy.shape
    return float(energy[height // 2].sum() + energy[:, width // 2].sum())


def _style_losses(features: dict[str, Tensor], style: StyleTargets) -> dict[str, float]:
    return {
        layer: (style_loss(features[layer], style.grams[layer]) / style.grams[layer].square().mean()).item()
        for layer in STYLE_LAYERS
    }


def _mean(rows: list[Evaluation]) -> Evaluation:
    def mean(name: str) -> float:
        return float(np.mean([getattr(row, name) for row in rows]))

    def means(name: str) -> dict[str, float]:
        return {key: float(np.mean([getattr(row, name)[key] for row in rows])) for key in getattr(rows[0], name)}

    return Evaluation(
        photographs=len(rows),
        **{name: means(name) for name in ("style_before", "style_after", "shares")},
        **{name: mean(name) for name in ("content", "correlation", "checkerboard")},
    )
