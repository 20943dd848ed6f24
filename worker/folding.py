"""A VGG16 trained with batch norm -> the loss network: batch norm folded away, features in the original's units.

Each channel of a ReLU network can be scaled and the next layer's weights divided by that, without changing what it
computes. Trained with batch norm a few channels come out ten times louder than the rest, and a Gram matrix sees only
them; in the original (Caffe) weights nineteen in twenty lie within a factor of two of each other. So every channel is
scaled to its layer's root mean square in `RMS`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.names import CHANNELS
from core.vgg import VGG16

DEVIATION = 57.4
"""What a classifier's input is divided by while it is trained; the fold puts it into the first convolution."""

RMS = dict(zip(CHANNELS, (48, 213, 321, 466, 430, 430, 400, 200, 100, 60, 30, 20, 10), strict=True))
"""Of a channel of each layer over COCO photographs at 256 px: measured with the original weights up to relu2_2,
estimates below."""

RAISED = 4
"""A channel that is nearly dead is raised to this part of the layer's median, 1 / `RAISED`, and no further."""


def fold(features: nn.Sequential, photographs: Tensor) -> VGG16:
    """torchvision's `vgg16_bn().features` -> the same function without batch norm, in the original's units.

    `photographs`: (B, 3, H, W), RGB 0..255, of the size that the features will be used at: batch norm's statistics
    are taken over them anew, which changes `features`, and so are the channels' units.
    """
    vgg = VGG16("folded")
    _adapt(features, photographs - vgg.mean)
    convs = [layer for layer in features if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in features if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad():
        for folded, conv, norm in zip(vgg.convs.values(), convs, norms, strict=True):
            mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
            factor = norm.weight / (variance + norm.eps).sqrt()  # (N,)
            folded.get_parameter("weight").copy_(conv.weight * factor.view(-1, 1, 1, 1))
            folded.get_parameter("bias").copy_((conv.get_parameter("bias") - mean) * factor + norm.bias)
        vgg.convs["relu1_1"].get_parameter("weight").div_(DEVIATION)
        _rescale(vgg, photographs)
    return vgg


def _adapt(features: nn.Sequential, pictures: Tensor) -> None:
    """Take batch norm's statistics over these pictures: at another size they are others."""
    for module in features.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over the batches
    features.train()
    with torch.no_grad():
        for batch in torch.split(pictures, 8):
            features(batch / DEVIATION)
    features.eval()


def _rescale(vgg: VGG16, photographs: Tensor) -> None:
    x = photographs - vgg.mean
    last = torch.ones(3)
    for name, conv in vgg.convs.items():
        if name.endswith("_1") and name != "relu1_1":
            x = F.max_pool2d(x, 2)
        weight, bias = conv.get_parameter("weight"), conv.get_parameter("bias")
        weight.div_(last.view(1, -1, 1, 1))
        rms = F.relu(conv(x)).square().mean((0, 2, 3)).sqrt()  # (N,)
        last = RMS[name] / rms.clamp(min=float(rms.median()) / RAISED)
        weight.mul_(last.view(-1, 1, 1, 1))
        bias.mul_(last)
        x = F.relu(conv(x))
