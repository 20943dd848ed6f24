"""The weights in the clone, and the checks of a loss network's setting that need no loading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from impasto.core.errors import BadCheckpoint, BadParameter, NotFound, Unavailable
from impasto.core.files import FileCache, file_sha256
from impasto.core.settings import ROOT

if TYPE_CHECKING:
    from torch import Tensor
    from torchvision.models import WeightsEnum

MODELS = ROOT / "models"


@dataclass(frozen=True)
class Bundled:
    """A file of weights in the clone, and its hash."""

    path: Path
    sha256: str


FRONT = Bundled(
    MODELS / "losses" / "vgg16.safetensors", "746e7edca9726944e17386f1f13bf1fce39d4fe7ad08ce59bf34caa567856dc6"
)
"""The loss network: VGG16's first five convolutions, to relu3_1."""
SQUEEZENET = Bundled(
    MODELS / "losses" / "squeezenet.safetensors", "cd8605a29e4e07a215b6f0c3dfc3c1dc4bd6296828a4ce870e293928b28c3a3e"
)
"""The loss network of the term `depicted`: SqueezeNet 1.1 to fire7."""
ENCODER = Bundled(MODELS / "encoder.safetensors", "14715f138b5cc138cdc2377e9ee63cd1f4ae83171f9f731bdd3615a7e1478ce4")
"""VGG16Net's frozen part: VGG16 to relu4_2. The first five convolutions are `FRONT`'s."""

IMAGENET_SHA256 = "88682ab5"  # the first digits, as in the name of torchvision's file


_hashes = FileCache(file_sha256)


def loss_network_sha256(source: str) -> str | None:
    """The hash of a source, or its first digits; None where the file is missing, which loading reports."""
    if source in ("bundled", "imagenet"):
        return FRONT.sha256 if source == "bundled" else IMAGENET_SHA256
    path = Path(source)
    return _hashes(path) if path.is_file() else None


def check_recipe(recipe: str, source: str) -> None:
    """Raises BadParameter where the loss network `source` is not deep enough for the report's objective."""
    if recipe == "report" and source == "bundled":
        raise BadParameter(
            "recipe=report needs a whole VGG16, and the bundled one ends at relu3_1. Set IMPASTO_VGG16 to imagenet, "
            "which is fetched on first use, or to the path of a file."
        )


def read_bundled(bundled: Bundled) -> dict[str, Tensor]:
    """Read its tensors. Raises NotFound where the file is missing, BadCheckpoint where it is another."""
    path = bundled.path
    if not path.is_file():
        raise NotFound(
            f"The bundled weights are missing: {path}. The installed package does not have them: copy the repository's "
            f"folder models/ to {MODELS}."
        )
    if (found := file_sha256(path)) != bundled.sha256:
        raise BadCheckpoint(
            f"{path} is not the file of this version (SHA-256 {found[:12]}…, "
            f"expected {bundled.sha256[:12]}…). Restore it from the repository."
        )
    return read_safetensors(path)


def fetch_imagenet(weights: WeightsEnum) -> tuple[Path, dict[str, Any]]:
    """Path and tensors of torchvision's file. Its own loader fetches it on first use and checks the hash.

    Raises Unavailable where it cannot be fetched.
    """
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[1]
    try:
        state = dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:  # no connection, or a wrong hash
        raise Unavailable(
            f"The ImageNet weights could not be fetched from {weights.url} ({error}). Fetch that file where there is "
            f"a connection and put it at {path}, or set IMPASTO_VGG16 to bundled."
        ) from error
    return path, state


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file. Raises BadCheckpoint where it is not a safetensors file."""
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise BadCheckpoint(f"{path} is not a safetensors file: {error}") from error
