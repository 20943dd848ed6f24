"""Measure how well a model paints photographs that it was not trained on."""

from collections.abc import Iterable

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from impasto.core.losses.gram_files import StyleTargets
from impasto.core.losses.networks import LossNetworks
from impasto.core.losses.objective import Objective
from impasto.core.params import NETWORK, Weights
from impasto.core.pictures.codec import Bytes
from impasto.core.pictures.tensors import to_tensor
from impasto.core.stylize.engine import Painter

PLAIN = Weights(style=1, coarse=1, depicted=1, detail=1, tv=1, excess=1, scales=NETWORK.scales)
"""Weights of 1: the terms of the objective as they are."""

FIGURES = ("style", "detail", "depicted", "coarse", "checkerboard")


class Evaluation(BaseModel):
    """The terms of `core.losses.objective.Objective` without weights, means over `photographs`; lower is better.

    The style's own picture has a style of 0, the photograph itself a detail and a depicted of 0, and the photograph in
    the style's colours a coarse of 0.
    """

    photographs: int
    style: float
    detail: float
    depicted: float
    coarse: float
    checkerboard: float
    """Energy of the painting at the Nyquist frequency, over the photograph's."""
    photograph_style: float
    """The style of the photograph."""
    photograph_coarse: float
    """The coarse term of the photograph, in its own colours."""


def evaluate(painter: Painter, photographs: Iterable[Bytes], style: StyleTargets, networks: LossNetworks) -> Evaluation:
    """Measure a model on photographs, uint8 RGB (H, W, 3) with even sides."""
    objective = Objective(PLAIN, networks.vgg, networks.squeezenet, style)
    rows = []
    for rgb in photographs:
        photograph, painting = to_tensor(rgb), to_tensor(painter(rgb))
        with torch.inference_mode():
            loss = objective.of(photograph)
            before, after = loss(photograph), loss(painting)
        rows.append(
            Evaluation(
                photographs=1,
                **{name: after[name].item() for name in ("style", "detail", "depicted", "coarse")},
                checkerboard=nyquist_energy(painting) / nyquist_energy(photograph),
                photograph_style=before["style"].item(),
                photograph_coarse=before["coarse"].item(),
            )
        )
    names = [name for name in Evaluation.model_fields if name != "photographs"]
    return Evaluation(
        photographs=len(rows), **{name: float(np.mean([getattr(row, name) for row in rows])) for name in names}
    )


def nyquist_energy(picture: Tensor) -> float:
    """Energy at the Nyquist frequency, where neighbours alternate: a row and a column of the spectrum of the channels'
    mean.

    `picture`: (1, 3, H, W) with even sides.
    """
    energy = torch.fft.fft2(picture[0].mean(0)).abs().square()  # (H, W)
    height, width = energy.shape
    return float(energy[height // 2].sum() + energy[:, width // 2].sum())
