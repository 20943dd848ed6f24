"""`impasto train-encoder`: train VGG16Net's frozen part."""

from pathlib import Path

import click

from impasto.options import learning, read_settings


@click.command("train-encoder")
@learning
@click.option(
    "--steps", type=click.IntRange(min=1), default=1200, show_default=True, help="Steps of four crops of 128 px."
)
def train_encoder(data: tuple[Path, ...], out: Path, **numbers: int) -> None:
    """Train the encoder of the vgg16 network, its frozen part, to keep what reproduces a photograph."""
    from impasto.training.encoder import train_encoder_on
    from impasto.training.sources import Sources

    train_encoder_on(Sources(read_settings(), data), out, **numbers)
