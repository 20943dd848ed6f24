"""Fixtures of several tests: a small zoo of untrained networks, and settings that stay in a temporary folder."""

import os
import shutil

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch: several processes with all cores each only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["IMPASTO_MIN_FREE"] = "0"  # how full the disk of a test machine is, is not what tests are about

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from impasto import cli
from impasto.core.jobs.open import open_store
from impasto.core.jobs.transitions import Jobs
from impasto.core.losses.networks import LossNetworks
from impasto.core.nets.checkpoints import Card, place, save
from impasto.core.nets.painters import build
from impasto.core.nets.squeezenet import load_squeezenet
from impasto.core.nets.vgg import VGG16, load_encoder, load_vgg16
from impasto.core.nets.weights import ENCODER
from impasto.core.params import TrainParams
from impasto.core.pictures.codec import Picture, encode
from impasto.core.settings import Settings
from tests.helpers.processes import children
from tests.helpers.receivers import Receiver
from tests.helpers.servers import RedisServer, service_here
from tests.helpers.work import Clock, Place

SHARED = Path(__file__).parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def vgg() -> VGG16:
    """The loss network in the clone, to relu3_1."""
    return load_vgg16()


@pytest.fixture(scope="session")
def encoder() -> VGG16:
    """VGG16Net's frozen part, to relu4_2."""
    return load_encoder()


@pytest.fixture(scope="session")
def whole() -> VGG16:
    """A VGG16 of all 13 convolutions, at random, whose features stay in the units of its pictures; of float16's
    numbers."""
    torch.manual_seed(0)
    vgg = VGG16()
    for conv in vgg.convs.values():
        torch.nn.init.kaiming_normal_(conv.get_parameter("weight"))
    vgg.convs.half().float()
    return vgg


@pytest.fixture(scope="session")
def networks(vgg: VGG16) -> LossNetworks:
    """The two loss networks in the clone."""
    return LossNetworks(vgg, load_squeezenet())


def card(vgg: VGG16, arch: str = "aonet", style: str = "plain", bits: int = 16) -> Card:
    return Card(
        params=TrainParams(arch=arch, dataset="coco", style=style, steps=1),  # type: ignore[arg-type]
        style_sha256="0" * 64,
        images=1,
        loss_network=vgg.source,
        loss_network_sha256=vgg.sha256,
        encoder_sha256=ENCODER.sha256 if arch == "vgg16" else None,
        first_losses={"total": 2.0},
        last_losses={"total": 1.0},
        created=datetime(2026, 1, 1, tzinfo=UTC),
        bits=bits,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, vgg: VGG16, encoder: VGG16) -> Path:
    """A folder with `aonet/coco/plain` and `vgg16/coco/plain`, untrained."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for arch, bits in (("aonet", 16), ("vgg16", 8)):
        about = card(vgg, arch, bits=bits)
        net = build(arch, encoder)
        torch.nn.init.zeros_(net.layers[-1].bias)  # mid-grey to the digit, which float16 keeps
        save(place(folder, about.params), net, about)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: a network is converted once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def settings(models: Path, cache: Path, tmp_path: Path) -> Settings:
    return Settings(
        models=models,
        styles=tmp_path / "styles",
        cache=cache,
        device="cpu",
        hosts="testserver, localhost, 127.0.0.1",  # the first is what Starlette's TestClient calls it
        store=str(tmp_path / "jobs.sqlite"),
        storage=str(tmp_path / "storage"),
        work=tmp_path / "work",
        datasets=tmp_path / "datasets",
    )


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """uint8 (37, 50, 3): odd, smooth and coloured, as photographs are."""
    rows, columns = np.mgrid[0:37, 0:50]
    return np.stack([rows * 6, columns * 5, 255 - rows * 3 - columns], axis=2).astype(np.uint8)


@pytest.fixture(scope="session")
def png(photo: np.ndarray) -> bytes:
    """`photo` as a file."""
    return encode(Picture(photo), "png")


@pytest.fixture
def runner(settings: Settings) -> Iterator[Place]:
    """A worker that has left nothing behind at the end."""
    runner = Place(settings)
    yield runner
    runner.stopping.set()
    runner.wait()
    runner.jobs.store.close()
    assert children() == []
    assert not list(settings.work.glob("*-*"))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for all tests that leave it running; they use it after `flush()`."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "jobs.sqlite")
    server: RedisServer = request.getfixturevalue("redis_server")
    server.flush()
    return server.url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(store_url: str, clock: Clock) -> Iterator[Jobs]:
    """The jobs of each kind of store, whose time is that of `clock`."""
    jobs = Jobs(open_store(store_url), clock)
    yield jobs
    jobs.store.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """A client of the service with `settings`, in this process."""
    with service_here(settings) as client:
        yield client


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk, and not everywhere")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the fault tests at full length: `make chaos`")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say last what was not tested for want of a program, and the command that brings it."""
    missing = [name for name in ("redis-server", "chromium") if not shutil.which(name)]
    skipped = [
        report for report in terminalreporter.stats.get("skipped", []) if "not installed" in str(report.longrepr)
    ]
    if missing and skipped:
        terminalreporter.write_line(
            f"{len(skipped)} tests were skipped for want of {' and '.join(missing)}. "
            f"On Debian and Ubuntu: sudo apt-get install {' '.join(missing)}",
            yellow=True,
        )


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


@pytest.fixture
def impasto(settings: Settings, monkeypatch, capsys):
    """Run the command as the console does; (exit status, what it printed, what it complained of)."""
    for name in ("models", "styles", "cache"):
        monkeypatch.setenv(f"IMPASTO_{name.upper()}", str(getattr(settings, name)))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["impasto", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        out = capsys.readouterr()
        return status, out.out, out.err

    return run


@pytest.fixture
def photo_file(photo, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    return path
