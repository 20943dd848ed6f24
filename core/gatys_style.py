"""The style of a pixel job: one that is kept by name, or pictures, several of them blended."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from core.errors import BadParameter
from core.images import Bytes
from core.recipes import STYLE_SIZE, GatysParams
from core.styles import StyleTargets, load_targets, style_targets
from core.vgg import VGG16


@dataclass(frozen=True, eq=False)
class StyleImage:
    """A style's picture: uint8 RGB (H, W, 3), and the SHA-256 of its file."""

    rgb: Bytes
    sha256: str


@dataclass(frozen=True, eq=False)
class Style:
    """What a pixel job aims at; and the first picture, uint8 RGB (H, W, 3), where there is one."""

    targets: StyleTargets
    image: Bytes | None = None


def find_style(params: GatysParams, images: Sequence[StyleImage], folder: Path, vgg: VGG16) -> Style:
    """The style that `params` name, of those kept in `folder` (`models/styles`), or that of `images`.

    Raises BadParameter where there is neither or both, where `style_blend` has not one weight for each picture, and,
    as `load_targets` does, where a style by that name is kept for other layers or another loss network than asked for;
    NotFound where none is.
    """
    if (params.style is None) == (not images):
        given = "neither is" if params.style is None else "both are"
        raise BadParameter(f"Give the name of a style or pictures of one: {given} given.")
    if params.style is not None:
        return Style(load_targets(folder, params.style, STYLE_SIZE, params.style_layers, vgg))
    weights = params.style_blend or (1.0,) * len(images)
    if len(weights) != len(images):
        raise BadParameter(f"style_blend has {len(weights)} weights for {len(images)} style pictures: give one each.")
    size = round(params.style_scale * STYLE_SIZE)
    targets = [style_targets(image.rgb, image.sha256, size, params.style_layers, vgg) for image in images]
    return Style(blended(targets, weights), images[0].rgb)


def blended(targets: Sequence[StyleTargets], weights: Sequence[float]) -> StyleTargets:
    """The mean of Gram matrices of the same layers and size, weighted; the hash is one of all hashes and weights."""
    if len(targets) == 1:
        return targets[0]
    parts = [weight / sum(weights) for weight in weights]
    grams = {
        layer: torch.stack([part * t.grams[layer] for part, t in zip(parts, targets, strict=True)]).sum(0)
        for layer in targets[0].grams
    }
    names = " ".join(f"{t.sha256}:{part:.6g}" for part, t in zip(parts, targets, strict=True))
    return StyleTargets(grams, sha256(names.encode()).hexdigest(), targets[0].size)
