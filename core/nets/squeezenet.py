"""SqueezeNet 1.1 up to fire7: a classifier of ImageNet at a tenth of VGG16's cost, whose features show the subject.

A picture is float32 RGB (B, 3, H, W) in 0..255. The mean is subtracted here and nowhere else.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from impasto.core.errors import BadCheckpoint
from impasto.core.nets.weights import SQUEEZENET, read_bundled

MEAN = (123.0, 117.0, 104.0)  # RGB, 0..255

WIDTHS = {
    "fire2": (64, 16, 128),
    "fire3": (128, 16, 128),
    "fire4": (128, 32, 256),
    "fire5": (256, 32, 256),
    "fire6": (256, 48, 384),
    "fire7": (384, 48, 384),
}
"""Channels of each module: input, squeezed and output."""

POOLED = ("fire2", "fire4", "fire6")
"""Modules with a max pool of 3, stride 2, before them."""


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then a 1x1 and a 3x3 convolution side by side; ReLU after all three."""

    def __init__(self, inputs: int, squeezed: int, outputs: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, outputs // 2, 1)
        self.expand3x3 = nn.Conv2d(squeezed, outputs // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h, w)."""
        x = F.relu(self.squeeze1x1(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """Frozen: `squeezenet(pictures, layers)` gives {layer: features}."""

    mean: Tensor

    def __init__(self, sha256: str = "") -> None:
        super().__init__()
        self.sha256 = sha256
        # The original has no padding here. With it the border counts as much as the middle.
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1)
        self.fires = nn.ModuleDict({name: Fire(*widths) for name, widths in WIDTHS.items()})
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, pictures: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Features (B, 128, H/4, W/4) of fire3, (B, 256, H/8, W/8) of fire5, (B, 384, H/16, W/16) of fire7, and those
        between, of `pictures` (B, 3, H, W) in 0..255."""
        wanted = set(layers)
        x = F.relu(self.conv1(pictures - self.mean))  # (B, 64, H/2, W/2)
        features = {}
        for name, fire in self.fires.items():
            if name in POOLED:
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            x = fire(x)
            if name in wanted:
                features[name] = x
        return features


def load_squeezenet() -> SqueezeNet:
    """Load the bundled one, which this project trained to compute what the original computes.

    Raises NotFound where the file is missing, BadCheckpoint where it is another file.
    """
    return squeezenet_of(read_bundled(SQUEEZENET), SQUEEZENET.sha256, str(SQUEEZENET.path))


def squeezenet_of(state: dict[str, Any], sha256: str, source: str) -> SqueezeNet:
    """Build it from the weights `state`, named as in the original: `conv1.weight`, `fire2.squeeze1x1.bias` …. Deeper
    layers are ignored. Raises BadCheckpoint."""
    net = SqueezeNet(sha256)
    try:
        net.load_state_dict({name: state[name.removeprefix("fires.")].float() for name in net.state_dict()})
    except (KeyError, AttributeError, RuntimeError) as error:
        raise BadCheckpoint(f"{source} does not hold SqueezeNet 1.1's convolutions: {error}") from error
    return net.requires_grad_(False)


def from_torchvision(state: dict[str, Any]) -> dict[str, Any]:
    """Convert torchvision's names and units to the original's.

    The original takes pictures in 0..255 less `MEAN`, torchvision's (x / 255 - mean) / deviation.
    """
    places = dict(zip(WIDTHS, (3, 4, 6, 7, 9, 10), strict=True))
    found = {
        f"{fire}.{part}.{kind}": state[f"features.{place}.{theirs}.{kind}"]
        for fire, place in places.items()
        for part, theirs in (("squeeze1x1", "squeeze"), ("expand1x1", "expand1x1"), ("expand3x3", "expand3x3"))
        for kind in ("weight", "bias")
    }
    mean, deviation = (torch.tensor(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    kernel = state["features.0.weight"] / (255 * deviation).view(1, 3, 1, 1)
    apart = (torch.tensor(MEAN) - 255 * mean).view(1, 3, 1, 1)
    return found | {"conv1.weight": kernel, "conv1.bias": state["features.0.bias"] + (kernel * apart).sum((1, 2, 3))}
