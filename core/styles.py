"""What a network learns of a style: the Gram matrices of its image, kept beside the zoo for the named styles.

With them a training run or a pixel job needs no image. They hold for the size and the loss network that they were made
with (`STYLE_SIZE` and the bundled one, in the clone); anything else needs the image, and the error says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.errors import BadCheckpoint
from core.files import replacing
from core.images import Bytes
from core.kept import find_kept
from core.losses import gram
from core.vgg import VGG16


@dataclass(frozen=True)
class StyleTargets:
    """Gram matrices (N, N) by layer, float32; the SHA-256 of the image's file, and its short side in px."""

    grams: dict[str, Tensor]
    sha256: str
    size: int


def style_targets(rgb: Bytes, sha256: str, size: int, layers: Iterable[str], vgg: VGG16) -> StyleTargets:
    """The targets of a style image, uint8 (H, W, 3), with its short side resized to `size` px."""
    image = Image.fromarray(rgb)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    picture = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()  # (1, 3, H, W)
    with torch.no_grad():
        features = vgg(picture.to(vgg.mean.device), layers)
        return StyleTargets({layer: gram(f)[0] for layer, f in features.items()}, sha256, size)


def save_targets(path: Path, targets: StyleTargets, vgg: VGG16) -> None:
    """Keep them: upper triangles in float16, each layer over its largest value."""
    tensors = {}
    for layer, matrix in targets.grams.items():
        scale = matrix.abs().max()
        rows, columns = torch.triu_indices(*matrix.shape)
        tensors[layer] = (matrix / scale)[rows, columns].half().contiguous()
        tensors[f"{layer}.scale"] = scale.reshape(1)
    metadata = {"sha256": targets.sha256, "size": str(targets.size), "loss_network_sha256": vgg.sha256}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_targets(folder: Path, style: str, size: int, layers: Iterable[str], vgg: VGG16) -> StyleTargets:
    """The kept targets of a named style.

    Raises what `find_kept` raises.
    """
    wanted = list(layers)
    path = find_kept(folder, style, size, wanted, vgg.sha256)
    try:
        with safe_open(path, "numpy") as file:
            sha256 = (file.metadata() or {})["sha256"]
        tensors = load_file(path)
    except (OSError, SafetensorError, KeyError) as error:
        raise BadCheckpoint(f"{path} does not hold a style's Gram matrices: {error}") from error
    grams = {layer: _square(tensors[layer].float() * tensors[f"{layer}.scale"]) for layer in wanted}
    return StyleTargets({k: g.to(vgg.mean.device) for k, g in grams.items()}, sha256, size)


def _square(triangle: Tensor) -> Tensor:
    """(N * (N + 1) / 2,) -> the symmetric (N, N)."""
    n = int((2 * len(triangle)) ** 0.5)
    matrix = torch.zeros(n, n)
    rows, columns = torch.triu_indices(n, n)
    matrix[rows, columns] = triangle
    matrix[columns, rows] = triangle
    return matrix
