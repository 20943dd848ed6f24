"""`impasto evaluate`: the figures of trained networks, as a table."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from tqdm import tqdm

from core.checkpoints import Entry
from core.datasets import find_dataset
from core.engine import FORM, open_engine
from core.files import file_sha256
from core.images import OWN, Bytes, decode
from core.recipes import STYLE_LAYERS
from core.vgg import load_vgg16
from impasto.figures import Figures
from impasto.train import Sources
from worker.datasets import open_held_out
from worker.evaluation import Evaluation, evaluate

SIDE = 256
"""Short side of the photographs, px."""

MEASURE = 2  # raise it when something else is measured; FORM is raised when the networks compute something else

Names = tuple[str, str, str]
"""Network, dataset, style."""

COLUMNS = ("model", *STYLE_LAYERS, "style left", "content", "correlation", "checkerboard", "content : style")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def evaluate_models(models: Mapping[Names, Entry], sources: Sources, figures: Figures) -> dict[Names, Evaluation]:
    """The figures of `models`, printed row by row; those that are among `figures` are not measured again.

    Raises NotFound where there are no photographs, or no Gram matrices of a style and no picture of it.
    """
    settings = sources.settings
    source = sources.data or find_dataset(settings.datasets, "coco")
    paths = open_held_out(source, settings.cache_folder / "datasets", click.echo)
    photographs = " ".join(file_sha256(path) for path in paths)
    vgg, engine = load_vgg16(settings.vgg16), open_engine(settings)
    click.echo(
        f"On {len(paths)} photographs at {SIDE} px. Style loss of the photograph → of the painting, each over the mean "
        "square of the target's Gram matrix.\n"
    )
    click.echo(HEAD)
    found = {}
    for names, entry in models.items():
        model = "/".join(names)

        def measure(entry: Entry = entry, model: str = model) -> dict[str, Any]:
            targets = sources.style(entry.card.params, vgg)
            pictures = tqdm(_open(paths), total=len(paths), desc=model, leave=False, dynamic_ncols=True)
            return evaluate(engine.painter(entry.path), entry.card, pictures, targets, vgg).model_dump()

        parts = FORM, MEASURE, file_sha256(entry.path), vgg.sha256, photographs
        of = sha256(" ".join(map(str, parts)).encode()).hexdigest()
        found[names] = Evaluation(**figures.get(model, of, measure))
        click.echo(row(model, found[names]))
    return found


def row(model: str, result: Evaluation) -> str:
    """A row of the table, in Markdown."""
    layers = (f"{result.style_before[layer]:.2f} → {result.style_after[layer]:.3f}" for layer in STYLE_LAYERS)
    figures = (result.content, result.correlation, result.checkerboard)
    shares = f"{result.shares['content']:.0%} : {result.shares['style']:.0%}"
    cells = (f"`{model}`", *layers, f"{result.style_left:.1%}", *(f"{figure:.2f}" for figure in figures), shares)
    return f"| {' | '.join(cells)} |"


def _open(paths: list[Path]) -> Iterator[Bytes]:
    """(H, W, 3) each, the short side `SIDE` px and the long one a multiple of 16."""
    for path in paths:
        image = Image.fromarray(decode(path.read_bytes(), OWN).rgb)
        factor = SIDE / min(image.size)
        width, height = (round(side * factor / 16) * 16 for side in image.size)
        yield np.array(image.resize((width, height), Image.Resampling.LANCZOS))
