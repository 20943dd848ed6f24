"""What a network is trained to make small."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from core.losses import (
    brightness_loss,
    checkerboard_loss,
    content_loss,
    excess_loss,
    lattice_loss,
    style_loss,
    tiles,
    tv_loss,
    variance,
    without_border,
)
from core.names import STRIDES
from core.nets import PIXEL_SCALE
from core.recipes import STYLE_LAYERS, TrainParams
from core.styles import StyleTargets
from core.vgg import VGG16
from worker.log import LOSSES


class Objective:
    """The training loss of a batch of paintings against their photographs (eq. 6, all style layers).

    With `normalise` (ours) each style term is divided by its target Gram's mean square, and content, total variation,
    lattice, checkerboard and excess by the variance of what they compare with: a weight means the same at every layer.
    `coarse_weight` (ours) adds to eq. 6 the style of the painting at half its size, without tiles or margin: there a
    loss network sees twice as far, and asks for forms larger than strokes.
    """

    def __init__(self, params: TrainParams, vgg: VGG16, style: StyleTargets) -> None:
        self.params, self.vgg = params, vgg
        self.period = STRIDES[params.arch] // params.enlarged
        self.targets = {layer: style.grams[layer].to(vgg.mean.device) for layer in STYLE_LAYERS}  # (N, N) each

    def __call__(self, photographs: Tensor, paintings: Tensor, style_weight: float) -> dict[str, Tensor]:
        """Weighted losses, scalars, and their total."""
        p = self.params
        seen = _seen(paintings) if p.clamp else paintings
        with torch.no_grad():
            wanted = self.vgg(photographs, p.content_layers)
        features = self.vgg(seen, {*p.content_layers, *STYLE_LAYERS})
        coarse = self.vgg(F.avg_pool2d(seen, 2), STYLE_LAYERS) if p.coarse_weight else None
        content = none = photographs.new_zeros(())
        for layer in p.content_layers:
            content = content + content_loss(features[layer], wanted[layer]) / self._unit(wanted[layer])
        style = none
        for layer, target in self.targets.items():
            terms = [style_loss(part, target) for part in self._parts(features[layer], photographs.shape[-1])]
            loss = torch.stack(terms).mean()
            if coarse:
                loss = loss + p.coarse_weight * style_loss(coarse[layer], target)
            style = style + loss / (target.square().mean() if p.normalise else 1)
        unit = self._unit(photographs)
        more: dict[str, tuple[float, Callable[[], Tensor]]] = {
            "tv": (p.tv_weight, lambda: tv_loss(seen) / unit),
            "lattice": (p.lattice_weight, lambda: lattice_loss(seen, self.period) / unit),
            "checkerboard": (p.checkerboard_weight, lambda: checkerboard_loss(seen) / unit),
            "excess": (p.excess_weight, lambda: excess_loss(paintings) / unit),
            "brightness": (p.brightness_weight, lambda: brightness_loss(seen, photographs)),
        }
        losses = {"content": p.content_weight * content, "style": style_weight * style}
        losses |= {name: weight * loss() if weight else none for name, (weight, loss) in more.items()}
        return losses | {"total": torch.stack(list(losses.values())).sum()}

    def _parts(self, features: Tensor, side: int) -> Iterator[Tensor]:
        """The tiles of a layer's features, of pictures of `side` px, and those of their middle if there is a margin."""
        yield tiles(features, self.params.style_tiles)
        if margin := self.params.style_margin * features.shape[-1] // side:
            yield tiles(without_border(features, margin), self.params.style_tiles)

    def _unit(self, target: Tensor) -> Tensor | float:
        return variance(target) if self.params.normalise else 1.0


def _seen(paintings: Tensor) -> Tensor:
    """`paintings` within 0..255. Gradients pass as though nothing were cut off, or what is beyond would stay there."""
    return paintings + (paintings.clamp(0, 255) - paintings).detach()


def reproduction(photographs: Tensor, paintings: Tensor) -> dict[str, Tensor]:
    """The losses of the first stage: the squared error of the pixels, in units of `PIXEL_SCALE`.

    InstanceNorm forgets how bright a picture was, so that is not asked of the network.
    """
    wanted = photographs - photographs.mean((2, 3), keepdim=True) + 127.5
    error = content_loss(paintings, wanted) / PIXEL_SCALE**2
    return dict.fromkeys(LOSSES, torch.zeros_like(error)) | {"content": error, "total": error}
