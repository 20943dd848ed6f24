"""`impasto evaluate`: the figures of trained networks, as a table."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from core.checkpoints import Zoo, load
from core.datasets import find_dataset
from core.files import write_bytes
from core.images import OWN, decode
from core.recipes import STYLE_LAYERS
from core.vgg import load_vgg16
from impasto.train import Sources
from worker.datasets import open_held_out
from worker.evaluation import Evaluation, evaluate

SIDE = 256
"""Short side of the photographs, px."""


def evaluate_models(
    arch: str | None, dataset: str | None, style: str | None, sources: Sources, output: Path | None
) -> None:
    """Print a row for each model of these names, and write all to `output` as JSON.

    Raises NotFound where there are no photographs, or no Gram matrices of a style and no picture of it.
    """
    settings = sources.settings
    models = Zoo(settings.models, settings.styles).select(arch, dataset, style)
    source = sources.data or find_dataset(settings.datasets, "coco")
    paths = open_held_out(source, settings.cache_folder / "datasets", click.echo)
    vgg = load_vgg16(settings.vgg16)
    found = {}
    click.echo(
        f"On {len(paths)} photographs at {SIDE} px. Style loss of the photograph → of the painting, each over the mean "
        "square of the target's Gram matrix.\n"
    )
    columns = ("model", *STYLE_LAYERS, "style left", "content", "correlation", "checkerboard", "content : style")
    click.echo(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for names, entry in models.items():
        model = "/".join(names)
        targets = sources.style(entry.card.params, vgg)
        photographs = tqdm(_open(paths), total=len(paths), desc=model, leave=False, dynamic_ncols=True)
        found[model] = evaluate(load(entry.path, settings.vgg16), entry.card, photographs, targets, vgg)
        click.echo(row(model, found[model]))
    if output:
        facts = {model: result.model_dump() for model, result in found.items()}
        write_bytes(output, (json.dumps(facts, indent=1) + "\n").encode())


def row(model: str, result: Evaluation) -> str:
    """A row of the table, in Markdown."""
    layers = (f"{result.style_before[layer]:.2f} → {result.style_after[layer]:.3f}" for layer in STYLE_LAYERS)
    figures = (result.content, result.correlation, result.checkerboard)
    shares = f"{result.shares['content']:.0%} : {result.shares['style']:.0%}"
    cells = (f"`{model}`", *layers, f"{result.style_left:.1%}", *(f"{figure:.2f}" for figure in figures), shares)
    return f"| {' | '.join(cells)} |"


def _open(paths: list[Path]) -> Iterator[Tensor]:
    """(1, 3, H, W) each, the short side `SIDE` px and the long one a multiple of 16."""
    for path in paths:
        image = Image.fromarray(decode(path.read_bytes(), OWN).rgb)
        factor = SIDE / min(image.size)
        width, height = (round(side * factor / 16) * 16 for side in image.size)
        resized = np.array(image.resize((width, height), Image.Resampling.LANCZOS))
        yield torch.from_numpy(resized).permute(2, 0, 1)[None].float()
