"""`impasto models`, `impasto convert` and `impasto keep-style`: list models, convert them, and name a style."""

import json
from pathlib import Path
from typing import Any

import click

from impasto.core.nets.checkpoints import Entry, Zoo
from impasto.core.stylize.engine import Engine
from impasto.options import read_settings


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print cards as JSON.")
def models(name: str | None, as_json: bool) -> None:
    """List the models, or show the card of the model NAME: the recipe that trained it.

    NAME is ARCH/DATASET/STYLE, such as aonet/coco/wave.
    """
    settings = read_settings()
    zoo = Zoo(settings.models, settings.styles)
    if name:
        entry = zoo.named(name)
        click.echo(entry.card.model_dump_json(indent=2) if as_json else described(entry))
        return
    found = {"/".join(names): entry for names, entry in zoo.select().items()}
    if as_json:
        cards = {name: entry.card.model_dump(mode="json") for name, entry in found.items()}
        click.echo(json.dumps(cards, indent=2))
        return
    for name, entry in found.items():
        p = entry.card.params
        weights = f"content {p.content_weight:g}, style {p.style_weight:g}"
        click.echo(f"{name}: {p.steps} steps of {p.batch} at {p.size} px, {weights}")


def described(entry: Entry) -> str:
    """A card as lines of `field  value`, the parameters of the training first; and how to train the model again."""
    card = entry.card.model_dump(mode="json")
    fields = {"file": entry.path, **card.pop("params"), **card}
    lines = [f"{name:22}{_text(value)}" for name, value in fields.items()]
    return "\n".join([*lines, "", f"Train it again: impasto train --again {entry.path}"])


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


@click.command()
def convert() -> None:
    """Convert the models that came with Impasto for the engine, beside them, so that no start has to."""
    models = read_settings().models
    engine = Engine(models, device="cpu")
    for (arch, dataset, style), entry in Zoo(models).entries().items():
        engine.painter(entry.path)
        click.echo(f"{arch}/{dataset}/{style}")


@click.command("keep-style")
@click.argument("name")
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of models.  [default: IMPASTO_MODELS]")
def keep_style(name: str, image: Path, out: Path | None) -> None:
    """Write the Gram file of IMAGE as the style NAME, so that training and painting it need no picture."""
    from impasto.training.sources import write_gram_file

    write_gram_file(name, image, out, read_settings())
