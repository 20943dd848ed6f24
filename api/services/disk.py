"""Room on the disks that jobs are written to."""

import shutil
import tempfile
from pathlib import Path

from impasto.core.errors import NoSpace
from impasto.core.settings import Settings


def free_percent(settings: Settings) -> dict[str, float]:
    """Per cent that is free on each disk of this machine where jobs are kept, or are put while they come in."""
    places = {"store": settings.store, "storage": settings.storage, "uploads": tempfile.gettempdir()}
    found = {}
    for name, where in places.items():
        if "://" in where:
            continue
        path = Path(where).expanduser().absolute()
        while not path.is_dir():
            path = path.parent
        usage = shutil.disk_usage(path)
        found[name] = 100 * usage.free / max(1, usage.used + usage.free)  # as df has it: what is reserved is nobody's
    return found


def check_space(settings: Settings) -> None:
    """Raises NoSpace where a disk is nearly full: there must be room for the results of what was taken on before."""
    for name, percent in free_percent(settings).items():
        if percent < settings.min_free:
            raise NoSpace(
                f"The disk of the jobs' {name} has {percent:.1f}% free, and new jobs need {settings.min_free:g}%. "
                "Erase jobs that are done, or come back later; /stylize goes on.",
                retry_after=60,
            )
