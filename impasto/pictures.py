"""Reading the user's own pictures: no limit but the machine's memory."""

from math import inf
from pathlib import Path
from typing import Any

from impasto.core.errors import BadPicture, NotFound
from impasto.core.pictures.codec import Picture, pixels
from impasto.core.pictures.guard import OWN, check, opened
from impasto.core.settings import Settings
from impasto.core.stylize.budget import Budget, Work


def read_picture(path: Path, settings: Settings, **painted: Any) -> Picture:
    """Decode the picture at `path`, if there is memory for it and for what is `painted` of it: fields of `Work`.

    Raises NotFound, what `codec.decode` raises, and TooLarge with the `paint_size` that would do.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"There is no picture at {path}.") from error
    except OSError as error:
        raise BadPicture(f"{path} cannot be read: {error.strerror}.") from error
    budget = Budget(settings.memory, inf, settings.max_painted)
    with opened(data, check(data, OWN), OWN) as image, budget.room(Work(image.height, image.width, **painted)):
        return pixels(image, OWN)
