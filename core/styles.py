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

from core.errors import BadCheckpoint, BadParameter
from core.files import replacing
from core.images import Bytes
from core.losses import gram
from core.names import unknown
from core.vgg import VGG16

KEPT_LAYERS = ("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_3", "relu4_1", "relu4_3", "relu5_1")
"""Algorithm 1's five style layers and Algorithm 2's four."""

_SUFFIX = ".safetensors"


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

    Raises NotFound for a style that has none; BadParameter where they were made at another size, for other layers or
    by another loss network than asked for.
    """
    kept = {path.stem: path for path in sorted(folder.glob(f"*{_SUFFIX}"))}
    if style not in kept:
        raise unknown("style", style, kept, " For a style of your own give its picture (--style-image).")
    try:
        with safe_open(kept[style], "numpy") as file:
            metadata = file.metadata() or {}
        tensors = load_file(kept[style])
        made = (int(metadata["size"]), metadata["loss_network_sha256"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise BadCheckpoint(f"{kept[style]} does not hold a style's Gram matrices: {error}") from error
    wanted = list(layers)
    if made != (size, vgg.sha256) or not set(wanted) <= set(tensors):
        raise BadParameter(
            f"The Gram matrices of {style!r} are kept at {made[0]} px, for loss network {made[1][:12]}… and "
            f"{', '.join(KEPT_LAYERS)}. For others give the style's picture (--style-image)."
        )
    grams = {layer: _square(tensors[layer].float() * tensors[f"{layer}.scale"]) for layer in wanted}
    return StyleTargets({k: g.to(vgg.mean.device) for k, g in grams.items()}, metadata["sha256"], size)


def _square(triangle: Tensor) -> Tensor:
    """(N * (N + 1) / 2,) -> the symmetric (N, N)."""
    n = int((2 * len(triangle)) ** 0.5)
    matrix = torch.zeros(n, n)
    rows, columns = torch.triu_indices(n, n)
    matrix[rows, columns] = triangle
    matrix[columns, rows] = triangle
    return matrix
