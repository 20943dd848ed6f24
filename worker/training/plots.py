"""Draw the curves of a run from its `losses.csv`."""

import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from impasto.core.files import replacing
from impasto.worker.training.losses_csv import losses_of, read_log

SMOOTH = 25  # most steps that a point of a curve is the mean of; fewer in a short run

COLOURS = 64  # of the picture, which has a quarter of the bytes then and looks the same


def plot_losses(folder: Path, path: Path, title: str) -> None:
    """Draw two panels: the weighted losses, and the ratio of each to the total (the report's fig. 6)."""
    rows = [row for row in read_log(folder) if row["main"]]
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(10, 4), layout="constrained")
    curves, ratios = figure.subplots(1, 2)
    for name in losses_of(rows[0]) if rows else ():
        values = _smooth([row[name] for row in rows])
        if any(values):
            curves.plot(steps, values, label=name)
            if name != "total":
                totals = _smooth([row["total"] for row in rows])
                ratios.plot(steps, [v / t if t else 0 for v, t in zip(values, totals, strict=True)], label=name)
    curves.set(title=f"{title}: losses", xlabel="step", yscale="log")
    ratios.set(title="share of the total (fig. 6)", xlabel="step", ylim=(0, 1))
    for axes in (curves, ratios):
        axes.grid(alpha=0.3)
        if axes.lines:  # there are none before the main stage
            axes.legend()
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    with replacing(path) as temporary:
        Image.open(drawn).convert("RGB").quantize(COLOURS).save(temporary, "png", optimize=True)


def _smooth(values: list[float]) -> list[float]:
    """Each value replaced by the mean of the last few."""
    width = min(SMOOTH, 1 + len(values) // 40)
    return [sum(values[max(0, k - width + 1) : k + 1]) / min(k + 1, width) for k in range(len(values))]
