"""The loss network: VGG16 features by layer name, from one of three sources of weights.

A picture is float32 RGB (B, 3, H, W) in 0..255. The mean is subtracted here and nowhere else, and nothing is divided:
the units are those of the original Caffe VGG16, for which Table 1's weights are meant.
"""

from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from impasto.core.errors import BadCheckpoint, BadParameter, NotFound
from impasto.core.files import file_sha256, replacing
from impasto.core.names import CHANNELS, check_layer
from impasto.core.nets.packing import pack, unpack
from impasto.core.nets.weights import ENCODER, FRONT, fetch_imagenet, read_bundled, read_safetensors

MEAN = (123.68, 116.779, 103.939)  # RGB, 0..255

_TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # the convolutions' places in vgg16().features


class VGG16(nn.Module):
    """VGG16's first convolutions, 13 at most, frozen: `vgg(pictures, layers)` gives {layer: features}.

    `source` and `sha256` identify the weights. A checkpoint's card has them.
    """

    mean: Tensor

    def __init__(self, source: str = "random", sha256: str = "", depth: int = len(CHANNELS)) -> None:
        super().__init__()
        self.source, self.sha256 = source, sha256
        widths = [3, *CHANNELS.values()]
        self.convs = nn.ModuleDict(
            {name: nn.Conv2d(widths[k], widths[k + 1], 3, padding=1) for k, name in enumerate([*CHANNELS][:depth])}
        )
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(
        self, pictures: Tensor, layers: Iterable[str], padding_mode: Literal["zeros", "reflect"] = "zeros"
    ) -> dict[str, Tensor]:
        """Features (B, C, H/2^k, W/2^k) of `pictures` (B, 3, H, W), RGB 0..255, for each of `layers`.

        `padding_mode` is the padding of each convolution: zeros, or reflection, which needs 2^(k+1) px a side. Stops
        after the last layer asked for. Raises NotFound for an unknown layer, BadParameter for one deeper than these
        weights.
        """
        missing = {check_layer(name) for name in layers}
        if deeper := sorted(missing - set(self.convs)):
            raise BadParameter(
                f"The loss network {self.source!r} ends at {[*self.convs][-1]}, and {', '.join(deeper)} is deeper. Set "
                "IMPASTO_VGG16 to imagenet, or to the path of a whole VGG16."
            )
        features: dict[str, Tensor] = {}
        x = pictures - self.mean
        for name, conv in self.convs.items():
            if not missing:
                break
            if name.endswith("_1") and name != "relu1_1":
                x = F.max_pool2d(x, 2)  # (B, C, h, w) -> (B, C, h/2, w/2)
            if padding_mode == "reflect":
                x = F.pad(x, (1, 1, 1, 1), padding_mode)
                x = F.conv2d(x, conv.get_parameter("weight"), conv.get_parameter("bias"))
            else:
                x = conv(x)
            x = F.relu(x)  # never in place: features that were returned must not change
            if name in missing:
                features[name] = x
                missing.remove(name)
        return features


def load_vgg16(source: str = "bundled") -> VGG16:
    """Load the loss network from `bundled`, `imagenet`, or the path of a file.

    - `bundled`: to relu3_1, in the clone. This project trained it to compute what the original computes.
    - `imagenet`: the original weights in RGB, torchvision's IMAGENET1K_FEATURES. Its loader fetches them on first use
      and checks their hash.
    - the path of a `.safetensors` in RGB, named as in torchvision: all 13 convolutions, or the first of them.
    - any other path, such as the report's `vgg16-00b39a1b.pth`: the original weights, for pictures in BGR.

    Raises NotFound where there is no file, BadCheckpoint for a file that does not hold VGG16 or whose hash is wrong,
    Unavailable where `imagenet` cannot be fetched.
    """
    if source == "bundled":
        return _build(source, read_bundled(FRONT), FRONT.sha256)
    if source == "imagenet":
        from torchvision.models import VGG16_Weights

        path, state = fetch_imagenet(VGG16_Weights.IMAGENET1K_FEATURES)
        return _build(source, state, file_sha256(path))
    path = Path(source)
    if not path.is_file():
        raise NotFound(f"There is no loss network at {path}. Use `bundled`, `imagenet` or the path of a file.")
    if path.suffix == ".safetensors":
        return _build(source, read_safetensors(path), file_sha256(path))
    vgg = _build(source, _read_pth(path), file_sha256(path))
    first = vgg.convs["relu1_1"].get_parameter("weight")
    first.data = first.data.flip(1)  # BGR -> RGB
    return vgg


def load_encoder(source: str = "bundled") -> VGG16:
    """Load VGG16Net's frozen part, to relu4_2. `bundled` has one of its own; other sources are those of `load_vgg16`.
    Raises what that raises."""
    if source == "bundled":
        return _build(source, read_bundled(ENCODER), ENCODER.sha256)
    return load_vgg16(source)


def save_vgg16(path: Path, vgg: VGG16, card: str, *, packed: bool = False) -> None:
    """Write `vgg` in float16, or `packed` into 8 bits (`core.nets.packing`), with `card` in the header."""
    tensors = {
        f"{index}.{kind}": conv.get_parameter(kind).detach().contiguous()
        for index, conv in zip(_TORCHVISION, vgg.convs.values(), strict=False)  # the bundled one has fewer
        for kind in ("weight", "bias")
    }
    with replacing(path) as temporary:
        save_file(pack(tensors) if packed else {k: v.half() for k, v in tensors.items()}, temporary, {"card": card})


def _build(source: str, state: dict[str, Any], sha256: str) -> VGG16:
    """Build VGG16 from `state`, named as in torchvision: `0.weight` … `28.bias`, with or without `features.` before."""
    prefix = "features." if "features.0.weight" in state else ""
    depth = max((k for k, index in enumerate(_TORCHVISION, 1) if f"{prefix}{index}.weight" in state), default=1)
    vgg = VGG16(source, sha256, depth)
    try:
        state = unpack(state)
        vgg.convs.load_state_dict(
            {
                f"{name}.{kind}": state[f"{prefix}{index}.{kind}"]
                for name, index in zip(vgg.convs, _TORCHVISION, strict=False)
                for kind in ("weight", "bias")
            }
        )
    except (KeyError, AttributeError, RuntimeError) as error:
        raise BadCheckpoint(f"{source} does not hold VGG16's convolutions: {error}") from error
    return vgg.requires_grad_(False)


def _read_pth(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)  # never runs pickled code
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise BadCheckpoint(f"{path} is not a file of plain PyTorch weights: {error}") from error
    if not isinstance(state, dict):
        raise BadCheckpoint(f"{path} holds a {type(state).__name__}, not a dictionary of weights.")
    return state
