"""Pictures side by side on one sheet, each with its label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from impasto.core.pictures.codec import Bytes, Picture

PAPER, INK = (250, 249, 246), (44, 44, 48)  # RGB


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, eq=False)
class Labelled:
    """A picture and what is written below it."""

    picture: Picture
    label: str


def sheet(rows: Sequence[Sequence[Labelled | None]]) -> Bytes:
    """The sheet, uint8 (H, W, 3): rows of pictures of one size, None where a place stays empty."""
    cells = [cell for row in rows for cell in row if cell]
    width, height = cells[0].picture.width, cells[0].picture.height
    gap = max(8, max(width, height) // 24)
    size = max(10.0, gap * 0.9)
    font = ImageFont.load_default(size)
    line = round(size * 1.2)
    page = Image.new(
        "RGB",
        (gap + max(map(len, rows)) * (width + gap), gap + len(rows) * (height + line + gap)),
        PAPER,
    )
    pen = ImageDraw.Draw(page)
    for down, row in enumerate(rows):
        for across, cell in enumerate(row):
            if cell is None:
                continue
            left, top = gap + across * (width + gap), gap + down * (height + line + gap)
            mask = None if cell.picture.alpha is None else Image.fromarray(cell.picture.alpha)
            page.paste(Image.fromarray(cell.picture.rgb), (left, top), mask)
            pen.text((left, top + height + line // 4), _fitting(cell.label, font, width), INK, font)
    return np.array(page)


def _fitting(label: str, font: Font, width: int) -> str:
    """The label, cut short with an ellipsis where it is wider than its picture."""
    if font.getlength(label) <= width:
        return label
    while label and font.getlength(label + "…") > width:
        label = label[:-1]
    return label + "…"
