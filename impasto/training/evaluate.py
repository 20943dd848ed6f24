"""`impasto evaluate`: measure trained networks, and print a table."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from tqdm import tqdm

from impasto.core.datasets import find_dataset
from impasto.core.files import file_sha256
from impasto.core.losses.networks import load_loss_networks
from impasto.core.nets.checkpoints import Entry
from impasto.core.pictures.codec import Bytes, read_picture
from impasto.core.stylize.engine import FORM, open_engine
from impasto.training.figures import Figures
from impasto.training.sources import Sources
from impasto.worker.training.evaluation import FIGURES, PLAIN, Evaluation, evaluate
from impasto.worker.training.photographs import open_held_out

SIDE = 256
"""Short side of the photographs, px."""

MEASURE = 4  # version of the measurement: raise it when something else is measured

Names = tuple[str, str, str]
"""Network, dataset, style."""

COLUMNS = ("model", *FIGURES, "style and coarse of the photograph")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def evaluate_models(models: Mapping[Names, Entry], sources: Sources, figures: Figures) -> dict[Names, Evaluation]:
    """Measure `models`, and print a row for each. A model that is among `figures` is not measured again.

    Raises NotFound where there are no photographs, or neither a Gram file nor a picture of a style.
    """
    settings = sources.settings
    source = sources.data[0] if sources.data else find_dataset(settings.datasets, "coco")
    paths = open_held_out(source, settings.cache_folder / "datasets", click.echo)
    photographs = " ".join(file_sha256(path) for path in paths)
    networks, engine = load_loss_networks(settings.vgg16), open_engine(settings)
    click.echo(
        f"On {len(paths)} photographs at {SIDE} px: the terms of the objective without weights, and the energy at the "
        "Nyquist frequency over the photograph's; lower is better.\n"
    )
    click.echo(HEAD)
    found = {}
    for names, entry in models.items():
        model = "/".join(names)

        def measure(entry: Entry = entry, model: str = model) -> dict[str, Any]:
            targets = sources.judged_style(entry.card.params.style, PLAIN.scales, networks.vgg)
            pictures = tqdm(_open(paths), total=len(paths), desc=model, leave=False, dynamic_ncols=True)
            return evaluate(engine.painter(entry.path), pictures, targets, networks).model_dump()

        parts = FORM, MEASURE, file_sha256(entry.path), networks.sha256, photographs
        of = sha256(" ".join(map(str, parts)).encode()).hexdigest()
        found[names] = Evaluation(**figures.get(model, of, measure))
        click.echo(row(model, found[names]))
    return found


def row(model: str, result: Evaluation) -> str:
    """A row of the table, in Markdown."""
    figures = (getattr(result, name) for name in FIGURES)
    of_photograph = f"{result.photograph_style:.2f}, {result.photograph_coarse:.2f}"
    return f"| `{model}` | {' | '.join(f'{figure:.3f}' for figure in figures)} | {of_photograph} |"


def _open(paths: list[Path]) -> Iterator[Bytes]:
    """Photographs (H, W, 3), with a short side of `SIDE` px and a long side that is a multiple of 16."""
    for path in paths:
        image = Image.fromarray(read_picture(path).rgb)
        factor = SIDE / min(image.size)
        width, height = (round(side * factor / 16) * 16 for side in image.size)
        yield np.array(image.resize((width, height), Image.Resampling.LANCZOS))
