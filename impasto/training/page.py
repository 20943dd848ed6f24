"""`impasto evaluate --page`: a page about models, made of their cards, their curves and their figures."""

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from impasto.core.device import find_device
from impasto.core.files import file_sha256, write_bytes
from impasto.core.gatys.optimise import Step, paint_pixels
from impasto.core.gatys.style import Style, find_style
from impasto.core.losses.networks import LossNetworks, load_loss_networks
from impasto.core.losses.style_image import read_style_image
from impasto.core.nets.checkpoints import Entry
from impasto.core.paint_params import PAINT_SIZE, CompareParams
from impasto.core.params import GatysParams
from impasto.core.pictures.codec import Picture, encode, read_picture
from impasto.core.stylize.compare import compare
from impasto.core.stylize.engine import open_engine
from impasto.training.evaluate import HEAD, Names, row
from impasto.training.figures import Figures
from impasto.training.sources import Sources
from impasto.worker.training.evaluation import Evaluation
from impasto.worker.training.train import plan

SIDE = 256
"""Long side of each picture of the grid, px, and of the pixels that Algorithm 1 moves."""

INTRODUCTION = """# The models

Made by `impasto evaluate --json {json} --page {page}`, from the models' cards, their `losses.csv` and the figures.
Every picture below is what the model paints of the same photograph, shrunk to {side} px.

![{count} models, one photograph]({grid})

## Figures

On {photographs} photographs that nothing is trained on, which the networks see with a short side of 256 px.
(`/stylize` shows `vgg16` small ones twice as large: its subjects are crisper then, and of the style there is less.) The
terms of the objective (`core/losses/objective.py`) without weights, lower is better: style, Gram matrices at three
scales over their targets' mean squares; detail, VGG16's relu3_1 at half size, and depicted, SqueezeNet's fire3, fire5
and fire7, over the variance of the photograph's features; coarse, squares of 8 px against the photograph in the style's
colours, over that one's variance; and the energy at the Nyquist frequency over the photograph's.
"""

PIXELS = """## Beside the optimisation of the pixels

The same photograph by moving its pixels (`impasto paint`, {side} px, {evaluations} evaluations): the total loss at the
first and at the last evaluation, and the share of the style in the last (the report's fig. 6 and its tables 3 and 4).

| style | first | last | style's share |
|---|---|---|---|
"""

TRAINING = """## Training

Seconds are those of the steps (the report's Table 2 has 740 to 2,260 on a V100), those of warm starts not included.

| model | recipe | photographs | warm start | steps, pictures and sides | seconds | on |
|---|---|---|---|---|---|---|
"""


def write_page(
    page: Path,
    photograph: Path,
    models: Mapping[Names, Entry],
    found: Mapping[Names, Evaluation],
    figures: Figures,
    sources: Sources,
) -> None:
    """Write `page`, and the grid beside it as WebP. Raises as `compare`, `find_style` and `paint_pixels`."""
    engine = open_engine(sources.settings)
    picture = read_picture(photograph)
    grid = page.with_suffix(".webp")
    sheet = compare(models, engine.painter, picture, CompareParams(side=SIDE, paint_size=PAINT_SIZE))
    write_bytes(grid, encode(sheet, "webp", quality=70))
    pixels = _pixels({style for _, _, style in models}, picture, file_sha256(photograph), figures, sources)
    entries = [("/".join(names), entry) for names, entry in models.items()]
    parts = [
        INTRODUCTION.format(
            json=figures.path or "FILE",
            page=page,
            side=SIDE,
            count=len(models),
            grid=grid.name,
            photographs=next(iter(found.values())).photographs,
        ),
        _lines([HEAD, *(row("/".join(names), result) for names, result in found.items())]),
        PIXELS.format(side=SIDE, evaluations=GatysParams().num_iterations) + _lines(pixels),
        TRAINING + _lines(_training(name, entry) for name, entry in entries),
        "## Curves\n\n" + _lines(f"![{name}]({_beside(page, entry.path)}.png)\n" for name, entry in entries),
    ]
    write_bytes(page, "\n".join(parts).encode())
    click.echo(str(page))


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _pixels(styles: set[str], picture: Picture, photograph: str, figures: Figures, sources: Sources) -> list[str]:
    """A row for each style: `picture`, whose file has the hash `photograph`, by Algorithm 1."""
    networks = load_loss_networks(sources.settings.vgg16)
    rows = []
    for name in sorted(styles):
        if sources.style_image:
            params, images = GatysParams(size=SIDE), [read_style_image(sources.style_image)]
        else:
            params, images = GatysParams(size=SIDE, style=name), []
        style = find_style(params, images, sources.settings.models / "styles", networks.vgg)

        def measure(style: Style = style, params: GatysParams = params, name: str = name) -> dict[str, Any]:
            return _painted(name, picture, style, params, networks, find_device(sources.settings.device))

        losses = figures.get(
            f"pixels/{name}",
            f"{photograph} {style.targets.sha256} {networks.sha256} {params.model_dump_json()}",
            measure,
        )
        first, last = losses["first"], losses["last"]
        share = last["style"] / last["total"]
        rows.append(f"| {name} | {first['total']:.3g} | {last['total']:.3g} | {share:.0%} |")
    return rows


def _painted(
    name: str, picture: Picture, style: Style, params: GatysParams, networks: LossNetworks, device: str
) -> dict[str, dict[str, float]]:
    losses = []
    with tqdm(total=params.num_iterations, desc=f"{name} in pixels", leave=False) as bar:

        def note(step: Step) -> None:
            losses.append(step.losses)
            bar.update()

        paint_pixels(picture, style, params, networks, device=device, on_step=note)
    return {"first": losses[0], "last": losses[-1]}


def _training(name: str, entry: Entry) -> str:
    card, p = entry.card, entry.card.params
    steps = " + ".join(f"{stage.steps:,} of {stage.batch} x {stage.size}²" for stage in plan(p))
    folders = ", ".join(f"{count:,} {folder}" for folder, count in card.folders.items()) or f"{card.images:,}"
    log = entry.path.with_suffix(".csv")
    seconds = "unknown"
    if log.exists():
        with log.open(newline="") as file:
            seconds = f"{sum(float(step['seconds']) for step in csv.DictReader(file)):,.0f}"
    start = f"`{p.warm_start}`" if p.warm_start else "none"
    machine = card.machine or "unknown"
    return f"| `{name}` | {p.recipe} | {folders} | {start} | {steps} | {seconds} | {machine} |"


def _beside(page: Path, checkpoint: Path) -> str:
    """The path of a checkpoint without its suffix, from the page's folder."""
    return Path(os.path.relpath(checkpoint.with_suffix(""), page.parent)).as_posix()
