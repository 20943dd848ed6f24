"""The losses of a run, step by step, in `losses.csv`."""

import csv
from dataclasses import dataclass
from pathlib import Path

from core.files import replacing

LOSSES = ("content", "style", "tv", "lattice", "checkerboard", "brightness", "excess", "total")


@dataclass(frozen=True)
class Step:
    """What a step reports: its number from 1, how many there are, the weighted losses, seconds that it took."""

    number: int
    total: int
    losses: dict[str, float]
    lr: float
    style_weight: float
    seconds: float


def start_log(folder: Path, done: int) -> None:
    """Start `losses.csv`, or drop the rows of steps that were not saved. Losses that there were none of then are 0."""
    path = folder / "losses.csv"
    lines = path.read_text().splitlines()[: done + 1] if path.exists() else []
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        names = ("step", "main", *LOSSES, "lr", "style_weight", "seconds")
        writer = csv.DictWriter(file, names, restval="0", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(csv.DictReader(lines))


def log_step(folder: Path, step: Step, main: bool) -> None:
    """Add a row."""
    with (folder / "losses.csv").open("a", newline="") as file:
        losses = (f"{step.losses.get(name, 0):.6g}" for name in LOSSES)
        csv.writer(file, lineterminator="\n").writerow(
            [step.number, int(main), *losses, f"{step.lr:.4g}", f"{step.style_weight:.4g}", f"{step.seconds:.3f}"]
        )


def read_log(folder: Path) -> list[dict[str, float]]:
    """The rows of `losses.csv`, one a step."""
    with (folder / "losses.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
