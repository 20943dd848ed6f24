"""The two loss networks, and the objectives that use them."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from impasto.core.losses.gram_files import StyleTargets
from impasto.core.losses.objective import Objective, ReportObjective
from impasto.core.nets.squeezenet import SqueezeNet, load_squeezenet
from impasto.core.nets.vgg import VGG16, load_vgg16
from impasto.core.params import ALGORITHM_1_CONTENT, GatysParams, TrainParams


@dataclass(frozen=True, eq=False)
class LossNetworks:
    vgg: VGG16
    squeezenet: SqueezeNet

    @property
    def source(self) -> str:
        """The source of VGG16, as `load_vgg16` takes it."""
        return self.vgg.source

    @property
    def name(self) -> str:
        """`bundled`, `imagenet`, or the name of VGG16's file."""
        return self.source if self.source in ("bundled", "imagenet") else Path(self.source).name

    @property
    def sha256(self) -> str:
        """Hash of both networks."""
        return sha256(f"{self.vgg.sha256} {self.squeezenet.sha256}".encode()).hexdigest()

    def to(self, device: str) -> "LossNetworks":
        return LossNetworks(
            self.vgg.to(device).to(memory_format=torch.channels_last),
            self.squeezenet.to(device).to(memory_format=torch.channels_last),
        )

    def objective(self, params: TrainParams | GatysParams, style: StyleTargets) -> Objective | ReportObjective:
        """The objective of a network's training or of a picture's pixels: ours, or the report's Algorithm 2 or 1."""
        style = style.to(self.vgg.mean.device)
        if params.recipe == "ours":
            return Objective(params.weights, self.vgg, self.squeezenet, style)
        content_layers = params.content_layers if isinstance(params, TrainParams) else ALGORITHM_1_CONTENT
        return ReportObjective(
            params.content_weight,
            params.style_weight,
            params.tv_weight,
            content_layers,
            params.style_layers,
            self.vgg,
            style,
        )


def load_loss_networks(vgg16: str = "bundled") -> LossNetworks:
    """Load both networks. Raises what `load_vgg16` and `load_squeezenet` raise."""
    return LossNetworks(load_vgg16(vgg16), load_squeezenet())
