"""`impasto train --trial`: train a hundred steps at each of five style weights, and lay out the paintings."""

import click
import torch

from impasto.core.files import write_bytes
from impasto.core.losses.networks import load_loss_networks
from impasto.core.nets.painters import Net
from impasto.core.pictures.codec import Bytes, Picture, encode
from impasto.core.pictures.sheet import Labelled, sheet
from impasto.core.pictures.tensors import to_array, to_tensor
from impasto.training.runs import Task, run_task, stop_on_signals
from impasto.training.sources import Sources
from impasto.worker.training.photographs import Batches

STEPS = 100
FACTORS = (0.25, 0.5, 1, 2, 4)
"""Factors of the style weight."""


def trial(task: Task, sources: Sources) -> bool:
    """Train the network of `task` for `STEPS` at each style weight, and lay out their paintings on `trial.png`.

    All start alike, best from `params.warm_start`. False where Ctrl-C or SIGTERM came before the end; the same call
    then goes on. Raises what `training.runs.train` raises.
    """
    stop = stop_on_signals()
    networks = load_loss_networks(sources.settings.vgg16)
    photograph = Batches(sources.photographs(task.params.dataset), task.params.size, 0, augment=False).middle(512)
    picture = Picture(to_array(photograph))
    row: list[Labelled | None] = [Labelled(picture, "photograph")]
    path = task.run / "trial.png"
    for factor in FACTORS:
        weight = task.params.style_weight * factor
        params = task.params.model_copy(update={"style_weight": weight, "steps": STEPS})
        trained = run_task(Task(params, task.run / f"style-{weight:g}", task.out), sources, networks, stop.is_set)
        if trained is None:
            return False
        row.append(Labelled(_painted(trained[0], picture.rgb), f"style weight {weight:g}"))
        write_bytes(path, encode(Picture(sheet([row[:3], row[3:]] if len(row) > 3 else [row])), "png"))
        click.echo(f"{path}: {len(row) - 1} of {len(FACTORS)}")
    return True


def _painted(net: Net, rgb: Bytes) -> Picture:
    """The painting of `rgb` (H, W, 3)."""
    with torch.inference_mode():
        return Picture(to_array(net(to_tensor(rgb))))
