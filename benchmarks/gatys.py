"""Algorithm 1: the time of an evaluation, and the loss against evaluations, ours against plain ways to do it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from math import inf
from statistics import median

import numpy as np
import torch

from benchmarks.engine import cat, seconds
from impasto.core.gatys.optimise import paint_pixels, painting_loss
from impasto.core.gatys.state import Run
from impasto.core.gatys.style import Style, find_style
from impasto.core.losses.networks import LossNetworks, load_loss_networks
from impasto.core.losses.objective import Loss
from impasto.core.memory import keep_memory
from impasto.core.params import GatysParams
from impasto.core.pictures.codec import Picture
from impasto.core.pictures.tensors import to_tensor
from impasto.core.settings import ROOT, Settings

SIZES = (256, 512)  # px, timed
ADAM_STEPS = 800
ADAM_RATES = (1.0, 3.0, 10.0)
OURS = 200  # evaluations
LOSS_SIZE = 128  # px: what is compared is counted, not timed
MARKS = (25, 50, 100, 200, 400, 800)


def _wave(settings: Settings, networks: LossNetworks, **values: object) -> tuple[Style, GatysParams]:
    params = GatysParams.model_validate({"style": "wave", **values})
    return find_style(params, [], settings.models / "styles", networks.vgg), params


def an_evaluation(settings: Settings) -> None:
    """Ours, and plain L-BFGS on the pixels in a process of its own, turn by turn; medians, on the CPU."""
    print("| an evaluation at | plain torch float32 | Impasto | times faster |\n|---|---|---|---|")
    keep_memory()
    networks = load_loss_networks().to("cpu")
    style, params = _wave(settings, networks)
    for size in SIZES:
        photograph = to_tensor(cat(size, size))
        run = Run(params, photograph)
        step = partial(run.step, painting_loss(params, style, networks, photograph))
        with _plain(size) as plain:
            times = [(plain(), seconds(step)) for _ in range(6)][1:]
        theirs, ours = (median(column) for column in zip(*times, strict=True))
        print(f"| {size} px | {theirs:.2f} s | {ours:.2f} s | {theirs / ours:.1f} |", flush=True)


@contextmanager
def _plain(size: int) -> Iterator[Callable[[], float]]:
    """Seconds of one evaluation more, each time it is called, in another process: there nothing is done for speed."""
    command = [sys.executable, "-m", "benchmarks.gatys", str(size)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    told, answers = process.stdin, process.stdout

    def once() -> float:
        print(file=told, flush=True)
        return float(answers.readline())

    try:
        yield once
    finally:
        told.close()
        process.wait()


def _answer(size: int) -> None:
    """The other process: an evaluation for each line that comes."""
    networks = load_loss_networks()
    style, params = _wave(Settings(), networks)
    photograph = to_tensor(cat(size, size))
    loss = networks.objective(params, style.targets).of(photograph)  # as peers compute it: float32, NCHW
    step = plain_steps(loss, photograph, torch.optim.LBFGS, max_iter=1)
    for _ in sys.stdin:
        print(seconds(step), flush=True)


def the_loss(settings: Settings) -> None:
    """Lowest total loss after so many evaluations."""
    networks = load_loss_networks().to("cpu")
    style, params = _wave(settings, networks, size=LOSS_SIZE, num_iterations=OURS)
    rgb = cat(LOSS_SIZE, LOSS_SIZE)
    photograph = to_tensor(rgb)
    loss = painting_loss(params, style, networks, photograph)
    curves: dict[str, list[tuple[float, float]]] = {}
    for rate in ADAM_RATES:
        curves[f"Adam on pixels, {rate:g}"] = _followed(
            plain_steps(loss, photograph, torch.optim.Adam, lr=rate), ADAM_STEPS
        )
    curves["L-BFGS on pixels"] = _followed(plain_steps(loss, photograph, torch.optim.LBFGS, max_iter=1), OURS)
    curves["Impasto"] = _ours(rgb, style, params, networks)
    print("| lowest loss after |", " | ".join(map(str, MARKS)), "|\n|---|" + "---|" * len(MARKS))
    for name, curve in curves.items():
        print(f"| {name} |", " | ".join(_at(curve, mark) for mark in MARKS), "|")
    goal = min(curve[-1][1] for name, curve in curves.items() if name.startswith("Adam"))
    print(f"\nThe best Adam's {goal:.3f} after {ADAM_STEPS} evaluations is reached after:")
    for name, curve in curves.items():
        reached = next((f"{count:g}" for count, best in curve if best <= goal), f"not within {curve[-1][0]:g}")
        print(f"- {name}: {reached}")


def plain_steps(
    loss: Loss, photograph: torch.Tensor, kind: type[torch.optim.Optimizer], **values: float
) -> Callable[[], float]:
    """A function that evaluates the loss once and moves the pixels, starting at the photograph; gives the total."""
    pixels = photograph.clone().requires_grad_()
    optimiser = kind([pixels], **values)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        total = loss(pixels)["total"] * pixels.numel()
        total.backward()
        return total

    def step() -> float:
        return optimiser.step(closure).item() / pixels.numel()

    return step


def _followed(step: Callable[[], float], evaluations: int) -> list[tuple[float, float]]:
    """(evaluations, lowest loss until then) of each."""
    best, curve = inf, []
    for number in range(1, evaluations + 1):
        best = min(best, step())
        curve.append((float(number), best))
    return curve


def _ours(rgb: np.ndarray, style: Style, params: GatysParams, networks: LossNetworks) -> list[tuple[float, float]]:
    """As `_followed`."""
    totals: list[float] = []
    paint_pixels(Picture(rgb), style, params, networks, on_step=lambda step: totals.append(step.losses["total"]))
    return [(float(number), lowest) for number, lowest in enumerate(accumulate(totals, min), 1)]


def _at(curve: list[tuple[float, float]], mark: float) -> str:
    """The lowest loss after `mark` evaluations, where there were as many."""
    until = [best for count, best in curve if count <= mark]
    return f"{until[-1]:.2f}" if until and until[-1] < inf and curve[-1][0] >= mark else ""


if __name__ == "__main__":
    _answer(int(sys.argv[1]))
