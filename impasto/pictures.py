"""Reading the user's own pictures: no limit but the machine's memory."""

from math import inf
from pathlib import Path
from typing import Any

from impasto.core.pictures.codec import Picture, pixels, read_file
from impasto.core.pictures.guard import OWN, check, opened
from impasto.core.settings import Settings
from impasto.core.stylize.budget import Budget, Work


def read_own_picture(path: Path, settings: Settings, **painted: Any) -> Picture:
    """Decode the picture at `path`, if there is memory for it and for what is `painted` of it: fields of `Work`.

    Raises what `read_file` and `decode` raise, and TooLarge with the `paint_size` that would do.
    """
    data = read_file(path)
    budget = Budget(settings.memory, inf, settings.max_painted)
    with opened(data, check(data, OWN), OWN) as image, budget.room(Work(image.height, image.width, **painted)):
        return pixels(image, OWN)
