"""What Algorithm 1 makes small."""

import torch
from torch import Tensor

from core.engine import has_bfloat16
from core.losses import content_loss, style_loss, tv_loss, variance
from core.recipes import GatysParams
from core.styles import StyleTargets
from core.vgg import VGG16

LEAST_UNIT = 1e-6  # what content and style are divided by at least
LEAST_CONTRAST = 100.0  # and total variation, levels squared: a photograph of one colour has no variance


class PixelLoss:
    """The loss of a picture's pixels (eq. 2, 3): content against a photograph, style against Gram matrices.

    With `normalise` (not the report's) each style term is divided by its target Gram's mean square, content and total
    variation by the variance of what the photograph has: all terms begin near 1, and a weight means the same at every
    layer. The convolutions are bfloat16 where that is faster, what is compared is float32.
    """

    def __init__(self, params: GatysParams, vgg: VGG16, style: StyleTargets, photograph: Tensor) -> None:
        """`photograph` is float32 RGB (1, 3, H, W) in 0..255, on the loss network's device."""
        self.params, self.vgg = params, vgg
        self.layers = {*params.content_layers, *params.style_layers}
        self.bfloat16 = has_bfloat16(photograph.device.type)
        with torch.no_grad():
            self.wanted = self._features(photograph, set(params.content_layers))
        self.grams = {layer: style.grams[layer].to(photograph.device) for layer in params.style_layers}  # (N, N) each
        self.content_units = {layer: self._unit(variance(f)) for layer, f in self.wanted.items()}
        self.style_units = {layer: self._unit(g.square().mean()) for layer, g in self.grams.items()}
        self.tv_unit = self._unit(variance(photograph), LEAST_CONTRAST)

    def __call__(self, pixels: Tensor) -> dict[str, Tensor]:
        """Weighted losses of `pixels` (1, 3, H, W), scalars, and their total."""
        p = self.params
        features = self._features(pixels, self.layers)
        content = style = pixels.new_zeros(())
        for layer, weight in zip(
            p.content_layers, p.content_layer_weights or (1,) * len(p.content_layers), strict=True
        ):
            content = content + weight * content_loss(features[layer], self.wanted[layer]) / self.content_units[layer]
        for layer, weight in zip(p.style_layers, p.style_layer_weights or (1,) * len(p.style_layers), strict=True):
            style = style + weight * style_loss(features[layer], self.grams[layer]) / self.style_units[layer]
        losses = {
            "content": p.content_weight * content,
            "style": p.style_weight * style,
            "tv": p.tv_weight * tv_loss(pixels) / self.tv_unit,
        }
        return losses | {"total": losses["content"] + losses["style"] + losses["tv"]}

    def _features(self, pixels: Tensor, layers: set[str]) -> dict[str, Tensor]:
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.vgg(pixels.contiguous(memory_format=torch.channels_last), layers)  # type: ignore[no-any-return]

    def _unit(self, value: Tensor, least: float = LEAST_UNIT) -> float:
        return max(value.item(), least) if self.params.normalise else 1.0
