"""Train the networks of some tasks, and write their checkpoints among the models."""

import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
from tqdm import tqdm

from impasto.core.device import find_device
from impasto.core.files import file_sha256
from impasto.core.losses.networks import LossNetworks, load_loss_networks
from impasto.core.nets.checkpoints import Card, Zoo, place, read_card, save
from impasto.core.nets.painters import Net
from impasto.core.params import TrainParams
from impasto.core.settings import Settings
from impasto.training.sources import Sources
from impasto.worker.training.losses_csv import Step
from impasto.worker.training.plots import plot_losses
from impasto.worker.training.train import train as run_training


@dataclass(frozen=True)
class Task:
    """A network to train: its parameters, the folder of its run, and the folder of models for its checkpoint."""

    params: TrainParams
    run: Path
    out: Path

    @property
    def name(self) -> str:
        return f"{self.params.arch}-{self.params.dataset}-{self.params.style}"


def task(params: TrainParams, folder: Path | None, out: Path, *, many: bool = False, trial: bool = False) -> Task:
    """The task of `params`. `folder` is that of its run; with `many`, the folder of all runs, by default runs/."""
    name = f"{params.arch}-{params.dataset}-{params.style}" + ("-trial" if trial else "")
    return Task(params, folder if folder and not many else (folder or Path("runs")) / name, out)


def train(tasks: list[Task], sources: Sources) -> bool:
    """Train one network after another, or go on with it. False where Ctrl-C or SIGTERM came before the end.

    Raises NotFound where photographs, a style or a warm start are not found, and what training raises.
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
    """Warn where `task` starts from another file than `checkpoint` did."""
    warm = _warm_start(task, settings)
    if warm and file_sha256(warm) != read_card(checkpoint).warm_start_sha256:
        message = (
            f"{checkpoint} started from another file than {warm}, which is {task.params.warm_start} now: "
            "the network may become another one."
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
    """The tasks without a checkpoint of the same parameters. Prints the others."""
    left = []
    for task in tasks:
        path = place(task.out, task.params)
        # Without steps it is one epoch, whose steps depend on the photographs.
        params = read_card(path).params if path.exists() else None
        if params and params == task.params.model_copy(update={"steps": task.params.steps or params.steps}):
            click.echo(f"{path} exists.")
        else:
            left.append(task)
    return left


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
