"""One photograph painted by several networks, on one labelled sheet, as the report compares them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from impasto.core.errors import BadParameter
from impasto.core.nets.checkpoints import Entry
from impasto.core.paint_params import CompareParams, PaintParams
from impasto.core.pictures.codec import Picture, shrink
from impasto.core.pictures.sheet import Labelled, sheet
from impasto.core.stylize.engine import Painter
from impasto.core.stylize.stylize import paint

MOST = 40
"""Most models on a sheet."""


def compare(
    models: Mapping[tuple[str, str, str], Entry],
    painter: Callable[[Path], Painter],
    photograph: Picture,
    params: CompareParams,
) -> Picture:
    """Lay out the photograph and its painting by each of `models`, by (arch, dataset, style).

    Styles are columns; networks and datasets are rows. With a single style its datasets are columns. Raises
    BadParameter for more than `MOST` models, and what `paint` raises.
    """
    if len(models) > MOST:
        raise BadParameter(
            f"{len(models)} models were chosen, and a sheet has {MOST} at most. Name a style, an arch or a dataset."
        )
    painted = shrink(photograph, params.painted_side)
    several = len({style for _, _, style in models}) > 1
    table: dict[tuple[str, ...], dict[str, Labelled]] = {}
    for (arch, dataset, style), entry in models.items():
        asked = PaintParams(
            style=style,
            arch=arch,
            paint_size=params.seen_side,
            strength=params.strength,
            preserve_color=params.preserve_color,
        )
        painting = shrink(paint(painter(entry.path), painted, asked), params.side)
        row, column = ((arch, dataset), style) if several else ((arch,), dataset)
        table.setdefault(row, {})[column] = Labelled(painting, f"{style}: {arch}, {dataset}")
    columns = sorted({column for row in table.values() for column in row})
    first = [Labelled(shrink(photograph, params.side), "photograph"), *[None] * (len(table) - 1)]
    rows = [[left, *map(row.get, columns)] for left, row in zip(first, table.values(), strict=True)]
    return Picture(sheet(rows))
