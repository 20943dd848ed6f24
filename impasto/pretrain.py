"""`impasto pretrain-vgg16`: train a loss network of one's own, and keep it with its card."""

from datetime import UTC, datetime
from pathlib import Path

import click
from pydantic import AwareDatetime, BaseModel
from tqdm import tqdm

from core.engine import find_device
from core.machine import device_name
from core.recipes import PretrainParams
from core.settings import Settings
from core.vgg import save_vgg16
from impasto.train import Sources, stop_on_signals
from worker.datasets import Batches
from worker.folding import fold
from worker.pretraining import Progress, pretrain, read_classes

PHOTOGRAPHS = 24
SIZE = 256
"""How many photographs set the units of the features, and their side in px."""


class PretrainCard(BaseModel):
    """What the file of a loss network says of itself."""

    params: PretrainParams
    images: int
    """Pictures that it was trained on."""
    accuracy: float
    """The part of the pictures held out whose class came first."""
    machine: str
    created: AwareDatetime


def pretrain_vgg16(
    params: PretrainParams, archive: Path, photographs: Path | None, run: Path, out: Path, settings: Settings
) -> bool:
    """Train, fold, write `out`; False when Ctrl-C or SIGTERM came before the end, and the same then goes on.

    Raises NotFound and BadParameter for an archive, photographs or a `run` that will not do.
    """
    stop = stop_on_signals()
    device = find_device(settings.device)
    paths = Sources(settings, (photographs,) if photographs else ()).photographs("coco")
    classes = read_classes(archive, run)
    click.echo(f"{len(classes.labels)} pictures of {classes.count} classes, on {device}; state in {run}")
    with tqdm(unit="step", dynamic_ncols=True, smoothing=0.1) as bar:

        def show(progress: Progress) -> None:
            if bar.total is None:
                bar.reset(progress.total)
                bar.initial = bar.n = progress.number - 1
            bar.set_postfix(loss=f"{progress.loss:.3g}", refresh=False)
            bar.update()
            if progress.accuracy is not None:
                bar.write(f"step {progress.number}: {progress.accuracy:.1%} of the pictures held out are recognised")

        trained = pretrain(params, classes, run, device=device, should_stop=stop.is_set, on_step=show)
    if trained is None:
        return False
    net, accuracy = trained
    vgg = fold(net.features, Batches(paths, SIZE, params.seed, augment=False)(0, SIZE, PHOTOGRAPHS))
    card = PretrainCard(
        params=params,
        images=len(classes.labels),
        accuracy=accuracy,
        machine=device_name(device),
        created=datetime.now(UTC).replace(microsecond=0),
    )
    save_vgg16(out, vgg, card.model_dump_json())
    click.echo(f"{out}: {accuracy:.1%}. IMPASTO_VGG16={out} uses it.")
    return True
