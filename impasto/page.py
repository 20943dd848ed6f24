"""`impasto evaluate --page`: a page about models, made of their cards, their curves and their figures."""

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from core.checkpoints import Card, Entry
from core.compare import compare
from core.engine import find_device, open_engine
from core.files import file_sha256, write_bytes
from core.gatys import Step, paint_pixels
from core.gatys_style import Style, StyleImage, find_style
from core.images import OWN, Picture, decode, encode
from core.recipes import PAINT_SIZE, CompareParams, GatysParams
from core.table1 import recipe
from core.vgg import VGG16, load_vgg16
from impasto.evaluate import HEAD, Names, row
from impasto.figures import Figures
from impasto.train import Sources
from worker.evaluation import Evaluation

SIDE = 256
"""Long side of each picture of the grid, px, and of the pixels that Algorithm 1 moves."""

INTRODUCTION = """# The models

Made by `impasto evaluate --json {json} --page {page}`, from the models' cards, their `losses.csv` and the figures.
Every picture below is what the model paints of the same photograph, shrunk to {side} px.

![{count} models, one photograph]({grid})

## Figures

On {photographs} photographs that nothing is trained on, short side 256 px, and what `/stylize` gives of them (vgg16
sees them twice as large). Style loss of the photograph → of the painting, each layer over the mean square of its
target's Gram matrix, and what is left of it in all; the content loss at relu2_2 over the variance of the photograph's
features; the correlation of the painting's relu4_2 features with the photograph's; the energy at the Nyquist frequency
over the photograph's; and how the weighted content and style losses share the total (the report's fig. 6; style at
half size, where a model was trained with it, is part of its style).
"""

PIXELS = """## Beside the optimisation of the pixels

The same photograph by Algorithm 1 (`impasto paint`, {side} px, {evaluations} evaluations), as the report's fig. 6 and
its tables 3 and 4 have it: the total loss at the first and at the last evaluation, and the shares of content and style
in the last.

| style | first | last | content : style |
|---|---|---|---|
"""

TRAINING = """## Training

Seconds are those of the steps (the report's Table 2 has 740 to 2,260 on a V100), those of warm starts not included.

| model | photographs | warm start | steps | pixels a step | seconds | on |
|---|---|---|---|---|---|---|
"""

DIFFERENCES = """## Where the parameters are not Table 1's

Every model keeps Adam. `impasto train --again <checkpoint>` trains one from its card alone.

| model | Table 1 → ours |
|---|---|
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
    picture = decode(photograph.read_bytes(), OWN)
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
        DIFFERENCES + _lines(f"| `{name}` | {_difference(entry.card)} |" for name, entry in entries),
        "## Curves\n\n" + _lines(f"![{name}]({_beside(page, entry.path)}.png)\n" for name, entry in entries),
    ]
    write_bytes(page, "\n".join(parts).encode())
    click.echo(str(page))


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _pixels(styles: set[str], picture: Picture, photograph: str, figures: Figures, sources: Sources) -> list[str]:
    """A row for each style: `picture`, of hash `photograph`, by Algorithm 1."""
    vgg = load_vgg16(sources.settings.vgg16)
    rows = []
    for name in sorted(styles):
        if sources.style_image:
            params, images = GatysParams(size=SIDE), [_style_image(sources.style_image)]
        else:
            params, images = GatysParams(size=SIDE, style=name), []
        style = find_style(params, images, sources.settings.models / "styles", vgg)

        def measure(style: Style = style, params: GatysParams = params, name: str = name) -> dict[str, Any]:
            return _painted(name, picture, style, params, vgg, find_device(sources.settings.device))

        losses = figures.get(f"pixels/{name}", f"{photograph} {style.targets.sha256} {vgg.sha256}", measure)
        first, last = losses["first"], losses["last"]
        content, share = (last[part] / last["total"] for part in ("content", "style"))
        rows.append(f"| {name} | {first['total']:.3g} | {last['total']:.3g} | {content:.0%} : {share:.0%} |")
    return rows


def _painted(
    name: str, picture: Picture, style: Style, params: GatysParams, vgg: VGG16, device: str
) -> dict[str, dict[str, float]]:
    losses = []
    with tqdm(total=params.num_iterations, desc=f"{name} in pixels", leave=False) as bar:

        def note(step: Step) -> None:
            losses.append(step.losses)
            bar.update()

        paint_pixels(picture, style, params, vgg, device=device, on_step=note)
    return {"first": losses[0], "last": losses[-1]}


def _style_image(path: Path) -> StyleImage:
    return StyleImage(decode(path.read_bytes(), OWN).rgb, file_sha256(path))


def _training(name: str, entry: Entry) -> str:
    card, p = entry.card, entry.card.params
    stages = [(stage.steps, stage.batch, stage.size) for stage in p.warmup] + [(p.steps or 0, p.batch, p.size)]
    steps = " + ".join(f"{steps:,}" for steps, _, _ in stages)
    sizes = " + ".join(f"{batch} x {size}²" for _, batch, size in stages)
    if p.enlarged > 1:
        sizes += f", seen at {p.enlarged} times the side"
    log = entry.path.with_suffix(".csv")
    seconds = "not kept"
    if log.exists():
        with log.open(newline="") as file:
            seconds = f"{sum(float(step['seconds']) for step in csv.DictReader(file)):,.0f}"
    start = f"`{p.warm_start}`" if p.warm_start else "none"
    return f"| `{name}` | {card.images:,} | {start} | {steps} | {sizes} | {seconds} | {card.machine or 'not kept'} |"


def _difference(card: Card) -> str:
    ours = card.params.model_dump()
    row = recipe(card.params.arch, card.params.dataset, card.params.style).model_dump()
    return ", ".join(f"{name} {_shown(row[name])} → {_shown(ours[name])}" for name in ours if ours[name] != row[name])


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return " + ".join(_shown(part) for part in value) or "none"
    if isinstance(value, dict):
        return f"({', '.join(f'{name} {_shown(part)}' for name, part in value.items())})"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _beside(page: Path, checkpoint: Path) -> str:
    """The path of a checkpoint without its suffix, from the page's folder."""
    return Path(os.path.relpath(checkpoint.with_suffix(""), page.parent)).as_posix()
