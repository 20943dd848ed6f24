"""`impasto train-encoder`: train VGG16Net's frozen part."""

from pathlib import Path

import click

from impasto.core.datasets import find_dataset
from impasto.core.device import find_device
from impasto.options import read_settings


@click.command("train-encoder")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Photographs: a folder or an archive; several are put together.  [default: coco, as fetched]",
)
@click.option("--steps", type=click.IntRange(min=1), default=1200, show_default=True, help="Of four crops of 128 px.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the weights and the crops.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write it to.")
def train_encoder(data: tuple[Path, ...], out: Path, **numbers: int) -> None:
    """Train the frozen part of the vgg16 network: to keep all that it takes to give a photograph back."""
    from impasto.training.encoder import train_encoder_on

    settings = read_settings()
    sources = list(data) or [find_dataset(settings.datasets, "coco")]
    device = find_device(settings.device)
    train_encoder_on(sources, settings.cache_folder / "datasets", out, device=device, **numbers)
