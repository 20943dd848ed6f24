"""Room for jobs: free space on their disks, and the share of one client."""

import shutil
import tempfile
from pathlib import Path

from impasto.core.errors import NoSpace
from impasto.core.settings import Settings

CLIENTS = 10
"""Clients that may fill a disk together: each has a tenth of it."""
OF_A_BUCKET = 10_000_000_000
"""Bytes of one client in a bucket, whose size nobody knows."""


def free_percent(settings: Settings) -> dict[str, float]:
    """Return the free per cent of each disk of this machine that jobs are kept on, or are received on."""
    places = {"store": settings.store, "storage": settings.storage, "uploads": tempfile.gettempdir()}
    found = {}
    for name, where in places.items():
        if "://" in where:
            continue
        disk = shutil.disk_usage(_folder(where))
        found[name] = 100 * disk.free / max(1, disk.used + disk.free)  # as df: what root has reserved does not count
    return found


def check_space(settings: Settings) -> None:
    """Raise NoSpace where a disk is nearly full: the jobs that were accepted before need room for their results."""
    for name, percent in free_percent(settings).items():
        if percent < settings.min_free:
            raise NoSpace(
                f"The disk of the jobs' {name} has {percent:.1f}% free, and new jobs need {settings.min_free:g}%. "
                "Delete jobs that are done, or come back later; /stylize goes on.",
                retry_after=60,
            )


def most_stored(settings: Settings) -> int:
    """Return the bytes that the jobs of one client may have in the storage."""
    if settings.max_stored:
        return settings.max_stored
    if "://" in settings.storage:
        return OF_A_BUCKET
    return shutil.disk_usage(_folder(settings.storage)).total // CLIENTS


def _folder(where: str) -> Path:
    """A folder, or the nearest above it that is there already."""
    path = Path(where).expanduser().absolute()
    while not path.is_dir():
        path = path.parent
    return path
