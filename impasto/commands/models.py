"""`impasto styles`, `impasto convert` and `impasto keep-style`: the models and styles there are."""

from pathlib import Path

import click

from impasto.core.nets.checkpoints import Zoo
from impasto.core.stylize.engine import Engine
from impasto.options import read_settings


@click.command()
def styles() -> None:
    """List the models there are."""
    settings = read_settings()
    for (arch, dataset, style), entry in Zoo(settings.models, settings.styles).entries().items():
        p = entry.card.params
        weights = f"content {p.content_weight:g}, style {p.style_weight:g}"
        click.echo(f"{arch}/{dataset}/{style}: {p.steps} steps of {p.batch} at {p.size} px, {weights}")


@click.command()
def convert() -> None:
    """Convert the models that came with Impasto for the engine, so that no start has to: for images and packages."""
    models = read_settings().models
    engine = Engine(models, device="cpu")
    for (arch, dataset, style), entry in Zoo(models).entries().items():
        engine.painter(entry.path)
        click.echo(f"{arch}/{dataset}/{style}")


@click.command("keep-style")
@click.argument("name")
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of models.  [default: the one that came with Impasto]"
)
def keep_style(name: str, image: Path, out: Path | None) -> None:
    """Keep the Gram matrices of IMAGE as the style NAME, so that training it needs no picture."""
    from impasto.training.sources import keep_style as run

    run(name, image, out, read_settings())
