"""The losses of a run, step by step, in `losses.csv`."""

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from impasto.core.files import replacing

BESIDE = ("step", "main", "lr", "seconds")
"""Columns besides the losses. `main` is 0 in the stage before the objective."""


@dataclass(frozen=True)
class Step:
    """Report of a step: its number from 1, the number of all steps, the weighted losses with their total, the learning
    rate, and the seconds that it took."""

    number: int
    total: int
    losses: dict[str, float]
    lr: float
    seconds: float


def start_log(folder: Path, done: int, losses: Iterable[str]) -> None:
    """Start `losses.csv` with a column for each of `losses` and their total. Of a run that goes on keep the rows of the
    first `done` steps; a loss that its version did not have is 0."""
    path = folder / "losses.csv"
    lines = path.read_text().splitlines()[: done + 1] if path.exists() else []
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        names = (*BESIDE[:2], *losses, "total", *BESIDE[2:])
        writer = csv.DictWriter(file, names, restval="0", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(csv.DictReader(lines))


def log_step(folder: Path, step: Step, main: bool) -> None:
    """Add a row, in the file's own order of columns."""
    values = {"step": step.number, "main": int(main), "lr": f"{step.lr:.4g}", "seconds": f"{step.seconds:.3f}"}
    values |= {name: f"{loss:.6g}" for name, loss in step.losses.items()}
    with (folder / "losses.csv").open("r+", newline="") as file:
        names = file.readline().strip().split(",")
        file.seek(0, os.SEEK_END)
        csv.DictWriter(file, names, restval="0", lineterminator="\n").writerow(values)


def read_log(folder: Path) -> list[dict[str, float]]:
    """The rows of `losses.csv`, one a step."""
    with (folder / "losses.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def losses_of(row: dict[str, float]) -> dict[str, float]:
    """The losses of a row."""
    return {name: value for name, value in row.items() if name not in BESIDE}
