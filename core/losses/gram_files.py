"""The targets of a style: its Gram matrices and colours, computed from a picture or read from a Gram file.

The Gram file of a named style takes the place of its picture. It is made for one size and one loss network: in the
clone for `STYLE_SIZE` and the bundled one. Anything else needs the picture, and the error says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from impasto.core.errors import BadCheckpoint
from impasto.core.files import replacing
from impasto.core.losses.named_styles import find_gram_file
from impasto.core.losses.recolour import Colours, colours_of
from impasto.core.losses.style_image import StyleImage
from impasto.core.losses.terms import gram
from impasto.core.nets.vgg import VGG16
from impasto.core.pictures.codec import resize_short
from impasto.core.pictures.tensors import to_tensor


@dataclass(frozen=True, eq=False)
class StyleTargets:
    """A style at one size and at fractions of it: 1, 1/2, 1/4 …"""

    grams: tuple[dict[str, Tensor], ...]
    """For each scale, Gram matrices (N, N) by layer, float32."""
    colours: Colours
    sha256: str
    """Hash of the image's file."""
    size: int
    """The image's short side, px."""

    def to(self, device: str | torch.device) -> "StyleTargets":
        grams = tuple({layer: matrix.to(device) for layer, matrix in scale.items()} for scale in self.grams)
        colours = Colours(self.colours.mean.to(device), self.colours.covariance.to(device))
        return StyleTargets(grams, colours, self.sha256, self.size)


def style_targets(picture: StyleImage, size: int, scales: int, layers: Iterable[str], vgg: VGG16) -> StyleTargets:
    """Compute the targets of a picture with its short side resized to `size` px, at so many scales."""
    layers = list(layers)
    pixels = to_tensor(resize_short(picture.rgb, size), vgg.mean.device)
    colours = colours_of(pixels[0])
    grams = []
    with torch.no_grad():
        for k in range(scales):
            pixels = halved(pixels) if k else pixels
            grams.append({layer: gram(f)[0] for layer, f in vgg(pixels, layers).items()})
    return StyleTargets(tuple(grams), colours, picture.sha256, size)


def halved(pictures: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H // 2, W // 2), averaged over squares of two."""
    return F.avg_pool2d(pictures, 2)


def save_targets(path: Path, targets: StyleTargets, vgg: VGG16) -> None:
    """Write a Gram file: colours in float32; upper triangles of Gram matrices in float16, over their largest value."""
    tensors = {"mean": targets.colours.mean, "covariance": targets.colours.covariance}
    for k, grams in enumerate(targets.grams):
        for layer, matrix in grams.items():
            scale = matrix.abs().max()
            rows, columns = torch.triu_indices(*matrix.shape)
            tensors[f"{k}.{layer}"] = (matrix / scale)[rows, columns].half().contiguous()
            tensors[f"{k}.{layer}.scale"] = scale.reshape(1)
    metadata = {"sha256": targets.sha256, "size": str(targets.size), "loss_network_sha256": vgg.sha256}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_targets(folder: Path, style: str, size: int, scales: int, layers: Iterable[str], vgg: VGG16) -> StyleTargets:
    """Read the targets of a named style, at the first `scales` sizes. Raises what `find_gram_file` raises."""
    wanted = list(layers)
    path = find_gram_file(folder, style, size, scales, wanted, vgg.sha256)
    try:
        with safe_open(path, "numpy") as file:
            sha256 = (file.metadata() or {})["sha256"]
        tensors = load_file(path)
        colours = Colours(tensors["mean"], tensors["covariance"])
    except (OSError, SafetensorError, KeyError) as error:
        raise BadCheckpoint(f"{path} does not hold a style's Gram matrices: {error}") from error
    grams = tuple(
        {layer: _square(tensors[f"{k}.{layer}"].float() * tensors[f"{k}.{layer}.scale"]) for layer in wanted}
        for k in range(scales)
    )
    return StyleTargets(grams, colours, sha256, size).to(vgg.mean.device)


def _square(triangle: Tensor) -> Tensor:
    """(N * (N + 1) / 2,) -> the symmetric (N, N)."""
    n = int((2 * len(triangle)) ** 0.5)
    matrix = torch.zeros(n, n)
    rows, columns = torch.triu_indices(n, n)
    matrix[rows, columns] = triangle
    matrix[columns, rows] = triangle
    return matrix
