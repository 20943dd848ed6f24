"""The engine against torch, on sizes never seen, and on twelve megapixels."""

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import torch

from impasto.core.nets import checkpoints
from impasto.core.nets.checkpoints import Zoo
from impasto.core.paint_params import PaintParams
from impasto.core.pictures.codec import Picture, read_picture, resize
from impasto.core.pictures.tensors import to_array, to_tensor
from impasto.core.settings import ROOT, Settings
from impasto.core.stylize.engine import Engine, Painter
from impasto.core.stylize.stylize import paint

CAT = ROOT / "docs" / "cat.jpg"
SIZES = (256, 512, 1024)
TWELVE = (3000, 4000)


def cat(height: int, width: int) -> np.ndarray:
    """The cat, uint8 (height, width, 3)."""
    return resize(read_picture(CAT).rgb, height, width)


def networks(settings: Settings) -> dict[str, Path]:
    """One checkpoint for each kind of network."""
    return {arch: entry.path for (arch, _, _), entry in reversed(Zoo(settings.models).entries().items())}


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def against_eager(settings: Settings) -> None:
    """Our engine and torch eager float32 of the same network, turn by turn; medians."""
    print("| network | size | torch eager float32 | Impasto | times faster |\n|---|---|---|---|---|")
    engine = Engine(settings.cache_folder, device="cpu")
    for arch, path in networks(settings).items():
        painter, net = engine.painter(path), checkpoints.load(path)
        for size in SIZES:
            eager, ours = _paired(net, painter, cat(size, size), turns=3 if size == 1024 else 9)
            print(
                f"| {arch} | {size} | {eager * 1000:.0f} ms | {ours * 1000:.0f} ms | {eager / ours:.1f} |", flush=True
            )


def _paired(net: torch.nn.Module, painter: Painter, rgb: np.ndarray, turns: int) -> tuple[float, float]:
    """Median seconds of eager torch, from uint8 to uint8 as the engine, and of the engine."""

    def eager() -> np.ndarray:
        return to_array(net(to_tensor(rgb)))

    with torch.inference_mode():
        times = [(seconds(eager), seconds(lambda: painter(rgb))) for _ in range(turns + 1)][1:]
    return median(a for a, _ in times), median(b for _, b in times)


def unseen_sizes(settings: Settings) -> None:
    """Twenty sizes, each painted once as never seen and then again."""
    random = np.random.default_rng(0)
    for arch, path in networks(settings).items():
        painter = Engine(settings.cache_folder, device="cpu").painter(path)
        painter(cat(256, 256))
        ratios = []
        for height, width in random.integers(200, 600, (20, 2)).tolist():
            paint_it = partial(painter, cat(height, width))
            unseen = seconds(paint_it)
            ratios.append(unseen / median(seconds(paint_it) for _ in range(5)))
        p95 = np.percentile(ratios, 95)
        print(f"{arch}: 20 sizes never seen take {median(ratios):.2f} times the same size seen, p95 {p95:.2f}")


def twelve_megapixels(settings: Settings) -> None:
    """A 4000x3000 photograph, each in a process of its own, for its memory."""
    print("| 12 megapixels | seconds | peak RSS |\n|---|---|---|")
    for paint_size in ("1280", "full"):
        command = [sys.executable, "-m", "benchmarks.engine", paint_size]
        out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        print(f"| aonet, paint_size={paint_size} | {out.strip()} |", flush=True)


def _one_large(paint_size: str) -> None:
    settings = Settings()
    painter = Engine(settings.cache_folder, device="cpu").painter(networks(settings)["aonet"])
    picture = Picture(cat(*TWELVE))
    params = PaintParams(style="wave", paint_size=paint_size if paint_size == "full" else int(paint_size))
    took = seconds(lambda: paint(painter, picture, params))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{took:.1f} | {peak:,.0f} MB")


if __name__ == "__main__":
    _one_large(sys.argv[1])


def memory_over_sizes(settings: Settings) -> None:
    """The process's RSS while one network paints pictures of sizes that it never saw: it must not grow with each."""
    print("| network | after 100 sizes | 200 | 300 |\n|---|---|---|---|")
    random = np.random.default_rng(0)
    for arch, path in networks(settings).items():
        painter = Engine(settings.cache_folder, device="cpu").painter(path)
        resident = []
        for number in range(1, 301):
            height, width = random.integers(64, 256, 2)
            painter(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
            if number % 100 == 0:
                resident.append(psutil.Process().memory_info().rss)
        print(f"| {arch} | {' | '.join(f'{size / 1e6:.0f} MB' for size in resident)} |", flush=True)
