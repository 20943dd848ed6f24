"""`impasto train`: find the photographs and the style, run Algorithm 2, keep what comes of it."""

import shutil
import signal
import threading
from collections.abc import Iterable
from pathlib import Path

import click
from tqdm import tqdm

from core.checkpoints import place, save
from core.datasets import find_dataset
from core.engine import find_device
from core.errors import BadParameter, NotFound
from core.files import file_sha256
from core.images import Limits, decode
from core.kept import KEPT_LAYERS
from core.names import is_name
from core.recipes import STYLE_LAYERS, STYLE_SIZE, TrainParams
from core.settings import Settings
from core.styles import StyleTargets, load_targets, save_targets, style_targets
from core.vgg import VGG16, load_vgg16
from worker.datasets import open_dataset
from worker.log import Step
from worker.plots import plot_losses
from worker.training import train as run_training


def train(
    params: TrainParams,
    data: Path | None,
    style_image: Path | None,
    folder: Path | None,
    out: Path | None,
    settings: Settings,
) -> bool:
    """Train, or go on training; True when the checkpoint is in place, False when Ctrl-C or SIGTERM came before.

    Raises NotFound where the photographs or the style cannot be found, and what training raises.
    """
    name = f"{params.arch}-{params.dataset}-{params.style}"
    folder = folder or Path("runs") / name
    vgg = load_vgg16(settings.vgg16)
    style = _style(params, style_image, vgg, settings)
    photographs = open_dataset(
        data or find_dataset(settings.datasets, params.dataset), settings.cache_folder / "datasets", click.echo
    )
    device = find_device(settings.device)
    click.echo(f"{name}: {len(photographs)} photographs, on {device}; state, losses and previews in {folder}")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with _Bar() as bar:
        trained = run_training(
            params, photographs, style, vgg, folder, device=device, should_stop=stop.is_set, on_step=bar.show
        )
    if trained is None:
        click.echo("Stopped; the same command goes on from here.")
        return False
    path = place(out or settings.styles, params)
    save(path, *trained)
    shutil.copyfile(folder / "losses.csv", path.with_suffix(".csv"))
    plot_losses(folder, path.with_suffix(".png"), name)
    click.echo(
        f"{path}, with its losses beside it. Paint with it: impasto stylize photo.jpg --arch {params.arch} "
        f"--dataset {params.dataset} --style {params.style}"
    )
    return True


def keep_style(name: str, image: Path, out: Path | None, settings: Settings) -> None:
    """Write the Gram matrices of a style image beside the zoo, at the default size, for the loss network in use."""
    if not is_name(name):
        raise BadParameter(f"{name!r} is no name for a style: a to z, 0 to 9, _ and -, 64 at most.")
    vgg = load_vgg16(settings.vgg16)
    path = (out or settings.models) / "styles" / f"{name}.safetensors"
    save_targets(path, _targets(image, STYLE_SIZE, KEPT_LAYERS, vgg), vgg)
    click.echo(str(path))


def _style(params: TrainParams, image: Path | None, vgg: VGG16, settings: Settings) -> StyleTargets:
    if image is None:
        return load_targets(settings.models / "styles", params.style, params.style_size, STYLE_LAYERS, vgg)
    return _targets(image, params.style_size, STYLE_LAYERS, vgg)


def _targets(image: Path, size: int, layers: Iterable[str], vgg: VGG16) -> StyleTargets:
    if not image.is_file():
        raise NotFound(f"There is no style picture at {image}.")
    rgb = decode(image.read_bytes(), Limits(max_bytes=10**9)).rgb
    return style_targets(rgb, file_sha256(image), size, layers, vgg)


class _Bar:
    """A progress bar with steps a second, the time left and the losses."""

    def __init__(self) -> None:
        self.bar = tqdm(unit="step", dynamic_ncols=True, smoothing=0.1)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, step: Step) -> None:
        if self.bar.total is None:
            self.bar.reset(step.total)
            self.bar.initial = self.bar.n = step.number - 1
        self.bar.set_postfix({k: f"{v:.3g}" for k, v in step.losses.items()}, refresh=False)
        self.bar.update()
