"""What several tests start from: a small zoo of untrained networks, and settings that stay in a temporary folder."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from core.checkpoints import Card, place, save
from core.nets import build
from core.recipes import TrainParams
from core.settings import Settings
from core.vgg import VGG16, load_vgg16

SHARED = Path(__file__).parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def vgg() -> VGG16:
    return load_vgg16()


def card(vgg: VGG16, arch: str = "aonet", style: str = "plain", bits: int = 16) -> Card:
    return Card(
        params=TrainParams(arch=arch, dataset="coco", style=style, steps=1),  # type: ignore[arg-type]
        style_sha256="0" * 64,
        images=1,
        loss_network=vgg.source,
        loss_network_sha256=vgg.sha256,
        first_losses={"total": 2.0},
        last_losses={"total": 1.0},
        created=datetime(2026, 1, 1, tzinfo=UTC),
        bits=bits,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, vgg: VGG16) -> Path:
    """A folder with `aonet/coco/plain` and `vgg16/coco/plain`, untrained."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for arch, bits in (("aonet", 16), ("vgg16", 8)):
        about = card(vgg, arch, bits=bits)
        save(place(folder, about.params), build(arch, vgg), about)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: a network is converted once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def settings(models: Path, cache: Path, tmp_path: Path) -> Settings:
    return Settings(models=models, styles=tmp_path / "styles", cache=cache, device="cpu")


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """uint8 (37, 50, 3): odd, smooth and coloured, as photographs are."""
    rows, columns = np.mgrid[0:37, 0:50]
    return np.stack([rows * 6, columns * 5, 255 - rows * 3 - columns], axis=2).astype(np.uint8)
