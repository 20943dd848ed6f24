"""`impasto train-encoder`: train VGG16Net's frozen part, and write it with its card."""

from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
from pydantic import AwareDatetime, BaseModel
from tqdm import tqdm

from impasto.core.device import device_name, find_device
from impasto.core.files import file_sha256
from impasto.core.losses.networks import load_loss_networks
from impasto.core.nets.vgg import save_vgg16
from impasto.training.sources import Sources
from impasto.worker.training.encoder import BATCH, SIZE, Step, train_encoder
from impasto.worker.training.photographs import Batches
from impasto.worker.training.train import MEAN_OVER

SCALE = 256
"""Least short side of the pictures that are cropped, px."""


class EncoderCard(BaseModel):
    """The description of an encoder, in its file."""

    loss_networks_sha256: str
    """Hash of both; the first five convolutions are VGG16's."""
    images: int
    """Pictures that its crops were drawn from."""
    steps: int
    batch: int
    size: int
    """Crops a step, and their side in px."""
    seed: int
    last_losses: dict[str, float]
    """Means over the last steps."""
    machine: str
    created: AwareDatetime


def train_encoder_on(sources: Sources, out: Path, *, steps: int, seed: int) -> EncoderCard:
    """Train on photographs. Write the encoder to `out` with its card, and return the card.

    Raises NotFound where there are no photographs, BadParameter where they cannot be used.
    """
    paths = sources.photographs("coco")
    networks, device = load_loss_networks(), find_device(sources.settings.device)
    last: list[dict[str, float]] = []
    with tqdm(unit="step", dynamic_ncols=True, total=steps) as bar:

        def show(step: Step) -> None:
            last.append(step.losses)
            del last[:-MEAN_OVER]
            bar.set_postfix({name: f"{loss:.3f}" for name, loss in step.losses.items()}, refresh=False)
            bar.update()

        batches = Batches(paths, SCALE, seed, augment=True)
        encoder = train_encoder(networks, batches, steps, seed=seed, device=device, on_step=show)
    card = EncoderCard(
        loss_networks_sha256=networks.sha256,
        images=len(paths),
        steps=steps,
        batch=BATCH,
        size=SIZE,
        seed=seed,
        last_losses={name: round(float(np.mean([row[name] for row in last])), 4) for name in last[0]},
        machine=device_name(device),
        created=datetime.now(UTC).replace(microsecond=0),
    )
    save_vgg16(out, encoder, card.model_dump_json(), packed=True)
    click.echo(f"{out}, SHA-256 {file_sha256(out)}")
    return card
