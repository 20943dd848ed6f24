"""`impasto train`: find the photographs and the style, run Algorithm 2, keep what comes of it."""

import shutil
import signal
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import click
from tqdm import tqdm

from core.checkpoints import Card, Zoo, place, read_card, save
from core.datasets import find_dataset
from core.engine import find_device
from core.errors import BadParameter, NotFound
from core.files import file_sha256
from core.images import Limits, decode
from core.loss_networks import LossNetworks, load_loss_networks
from core.names import is_name
from core.nets import Net
from core.recipes import SCALES, STYLE_LAYERS, STYLE_SIZE, TrainParams
from core.settings import Settings
from core.styles import StyleTargets, load_targets, save_targets, style_targets
from core.vgg import VGG16, load_vgg16
from worker.datasets import open_dataset
from worker.log import Step
from worker.plots import plot_losses
from worker.training import train as run_training


@dataclass(frozen=True)
class Task:
    """One network to train, where its run is kept, and the folder of models that it goes to."""

    params: TrainParams
    run: Path
    out: Path

    @property
    def name(self) -> str:
        return f"{self.params.arch}-{self.params.dataset}-{self.params.style}"


def task(params: TrainParams, folder: Path | None, out: Path, *, many: bool = False, trial: bool = False) -> Task:
    """The training of `params`; `folder` is its own, or of `many` the one that theirs are in. Unless told: runs/."""
    name = f"{params.arch}-{params.dataset}-{params.style}" + ("-trial" if trial else "")
    return Task(params, folder if folder and not many else (folder or Path("runs")) / name, out)


@dataclass(frozen=True)
class Sources:
    """What trainings read: photographs, of one folder or archive or several, and a style's picture; or both by their
    names where these are not given."""

    settings: Settings
    data: tuple[Path, ...] = ()
    style_image: Path | None = None

    def photographs(self, dataset: str) -> list[Path]:
        sources = self.data or [find_dataset(self.settings.datasets, dataset)]
        cache = self.settings.cache_folder / "datasets"
        return [path for source in sources for path in open_dataset(source, cache, click.echo)]

    def style(self, params: TrainParams, vgg: VGG16) -> StyleTargets:
        return self._found(params.style, params.style_size, params.scales, params.style_layers, vgg)

    def judged_style(self, style: str, scales: int, vgg: VGG16) -> StyleTargets:
        """What paintings are judged by, whatever their network was trained with: our objective's."""
        return self._found(style, STYLE_SIZE, scales, STYLE_LAYERS, vgg)

    def _found(self, style: str, size: int, scales: int, layers: Iterable[str], vgg: VGG16) -> StyleTargets:
        if self.style_image is None:
            return load_targets(self.settings.models / "styles", style, size, scales, layers, vgg)
        return _targets(self.style_image, size, scales, layers, vgg)


def train(tasks: list[Task], sources: Sources) -> bool:
    """Train one network after another, or go on; True when all are in place, False when Ctrl-C or SIGTERM came before.

    Raises NotFound where photographs, a style or a warm start cannot be found, and what training raises.
    """
    stop = stop_on_signals()
    networks = load_loss_networks(sources.settings.vgg16)
    for task in tasks:
        trained = run_task(task, sources, networks, stop.is_set)
        if trained is None:
            return False
        path = place(task.out, task.params)
        save(path, *trained)
        shutil.copyfile(task.run / "losses.csv", path.with_suffix(".csv"))
        plot_losses(task.run, path.with_suffix(".png"), task.name)
        click.echo(
            f"{path}, with its losses beside it. Paint with it: impasto stylize photo.jpg --arch {task.params.arch} "
            f"--dataset {task.params.dataset} --style {task.params.style}"
        )
    return True


def warn_of_another_start(task: Task, checkpoint: Path, settings: Settings) -> None:
    """Say so where what `task` starts from is not the file that `checkpoint` started from."""
    warm = _warm_start(task, settings)
    if warm and file_sha256(warm) != read_card(checkpoint).warm_start_sha256:
        message = (
            f"{checkpoint} started from another {task.params.warm_start} than {warm} is now: "
            "what comes of it may be another network."
        )
        click.secho(message, fg="yellow", err=True)


def _warm_start(task: Task, settings: Settings) -> Path | None:
    return Zoo(settings.models, settings.styles, task.out).warm_start(task.params)


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def run_task(
    task: Task, sources: Sources, networks: LossNetworks, should_stop: Callable[[], bool]
) -> tuple[Net, Card] | None:
    """The trained network and its card, or None when it was stopped."""
    settings = sources.settings
    warm = _warm_start(task, settings)
    style = sources.style(task.params, networks.vgg)
    photographs = sources.photographs(task.params.dataset)
    device = find_device(settings.device)
    click.echo(f"{task.name}: {len(photographs)} photographs, on {device}; state, losses and previews in {task.run}")
    with _Bar() as bar:
        return run_training(
            task.params,
            photographs,
            style,
            networks,
            task.run,
            warm=warm,
            device=device,
            should_stop=should_stop,
            on_step=bar.show,
        )


def untrained(tasks: list[Task]) -> list[Task]:
    """Those of `tasks` that no checkpoint of the same parameters is in place for; the others are named."""
    left = []
    for task in tasks:
        path = place(task.out, task.params)
        # Without steps one epoch is meant, as many as the photographs make.
        params = read_card(path).params if path.exists() else None
        if params and params == task.params.model_copy(update={"steps": task.params.steps or params.steps}):
            click.echo(f"{path} is there.")
        else:
            left.append(task)
    return left


def keep_style(name: str, image: Path, out: Path | None, settings: Settings) -> None:
    """Write the Gram matrices and colours of a style image beside the zoo, at the default size, for the loss network in
    use."""
    if not is_name(name):
        raise BadParameter(f"{name!r} is no name for a style: a to z, 0 to 9, _ and -, 64 at most.")
    vgg = load_vgg16(settings.vgg16)
    path = (out or settings.models) / "styles" / f"{name}.safetensors"
    save_targets(path, _targets(image, STYLE_SIZE, SCALES, STYLE_LAYERS, vgg), vgg)
    click.echo(str(path))


def _targets(image: Path, size: int, scales: int, layers: Iterable[str], vgg: VGG16) -> StyleTargets:
    if not image.is_file():
        raise NotFound(f"There is no style picture at {image}.")
    rgb = decode(image.read_bytes(), Limits(max_bytes=10**9)).rgb
    return style_targets(rgb, file_sha256(image), size, scales, layers, vgg)


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
