"""The style of a pixel job: a named style, or one or more pictures, blended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from impasto.core.errors import BadParameter
from impasto.core.losses.gram_files import StyleTargets, load_targets, style_targets
from impasto.core.losses.recolour import Colours
from impasto.core.losses.style_image import StyleImage
from impasto.core.nets.vgg import VGG16
from impasto.core.nets.weights import check_recipe
from impasto.core.params import STYLE_SIZE, GatysParams
from impasto.core.pictures.codec import Bytes


@dataclass(frozen=True, eq=False)
class Style:
    """The style of a pixel job, and its first picture, uint8 RGB (H, W, 3), where there is one."""

    targets: StyleTargets
    image: Bytes | None = None


def find_style(params: GatysParams, images: Sequence[StyleImage], folder: Path, vgg: VGG16) -> Style:
    """Return the style that `params` name, from its Gram file in `folder` (`models/styles`), or the style of `images`.

    Raises BadParameter for neither or both, and where `style_blend` has not one weight for each picture; and what
    `load_targets` raises.
    """
    if (params.style is None) == (not images):
        given = "Neither was" if params.style is None else "Both were"
        raise BadParameter(f"Give the name of a style, or pictures of one. {given} given.")
    check_recipe(params.recipe, vgg.source)
    if params.style is not None:
        return Style(load_targets(folder, params.style, STYLE_SIZE, params.scales, params.style_layers, vgg))
    weights = params.style_blend or (1.0,) * len(images)
    if len(weights) != len(images):
        raise BadParameter(
            f"style_blend has {len(weights)} weights for {len(images)} style pictures. Give one weight for each."
        )
    targets = [style_targets(image, params.style_side, params.scales, params.style_layers, vgg) for image in images]
    return Style(blended(targets, weights), images[0].rgb)


def blended(targets: Sequence[StyleTargets], weights: Sequence[float]) -> StyleTargets:
    """The weighted mean of targets of the same scales, layers and size. Its hash covers all hashes and weights."""
    if len(targets) == 1:
        return targets[0]
    parts = [weight / sum(weights) for weight in weights]

    def mean(of: Callable[[StyleTargets], Tensor]) -> Tensor:
        return torch.stack([part * of(t) for part, t in zip(parts, targets, strict=True)]).sum(0)

    first = targets[0]
    grams = tuple(
        {layer: mean(lambda t, k=k, layer=layer: t.grams[k][layer]) for layer in scale}  # type: ignore[misc]
        for k, scale in enumerate(first.grams)
    )
    colours = Colours(mean(lambda t: t.colours.mean), mean(lambda t: t.colours.covariance))
    names = " ".join(f"{t.sha256}:{part:.6g}" for part, t in zip(parts, targets, strict=True))
    return StyleTargets(grams, colours, sha256(names.encode()).hexdigest(), first.size)
