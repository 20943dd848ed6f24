"""`impasto distil`: train the loss networks of the clone."""

from pathlib import Path

import click

from impasto.core.datasets import find_dataset
from impasto.options import learning, read_settings


@click.command()
@click.argument("network", type=click.Choice(["vgg16", "squeezenet"]))
@click.option("--teacher", default="imagenet", show_default=True, help="Network to learn from: imagenet, or a file.")
@learning
@click.option(
    "--batches", type=click.IntRange(min=1), default=32, show_default=True, help="Batches of four crops of 128 px."
)
@click.option("--epochs", type=click.IntRange(min=1), default=60, show_default=True, help="Passes over all batches.")
def distil(network: str, teacher: str, data: tuple[Path, ...], out: Path, **numbers: int) -> None:
    """Train a loss network to compute what the original NETWORK computes, layer by layer."""
    from impasto.training.distil import distil_network

    settings = read_settings()
    sources = list(data) or [find_dataset(settings.datasets, "coco")]
    distil_network(network, teacher, sources, settings.cache_folder / "datasets", out, **numbers)
