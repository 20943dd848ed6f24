"""Train a network to paint one style, by our recipe or by Algorithm 2. A run that was stopped goes on."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from math import cos, pi
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from impasto.core.device import device_name, has_bfloat16
from impasto.core.errors import BadParameter
from impasto.core.files import file_sha256, replacing
from impasto.core.losses.gram_files import StyleTargets
from impasto.core.losses.networks import LossNetworks
from impasto.core.losses.terms import content_loss
from impasto.core.memory import keep_memory
from impasto.core.nets.checkpoints import Card, load, own_weights
from impasto.core.nets.painters import PIXEL_MEAN, PIXEL_SCALE, Net, VGG16Net, build
from impasto.core.nets.vgg import load_encoder
from impasto.core.nets.weights import ENCODER
from impasto.core.params import TrainParams
from impasto.core.pictures.tensors import to_array
from impasto.core.resume import Identity, load_state, save_state
from impasto.worker.training.losses_csv import Step, log_step, losses_of, read_log, start_log
from impasto.worker.training.photographs import Batches

STATE = "state.pt"
"""File in the run's folder that it goes on from."""
SAVE_EVERY = 25  # steps between two savings of the state
PREVIEW_EVERY = 25  # steps between two previews
MEAN_OVER = 20  # steps: a card's losses are means over the first and last of them

REPRODUCTION = 150
"""Steps in which a network learns to reproduce photographs, before the objective; at most as many as under it. From
there it learns to paint fastest."""
RISING = 50
"""Steps over which the learning rate rises from 0."""
SMALL = 2 / 3
"""Part of the steps with crops of half the side, twice as many: half the work, and as good."""
LEAST_RATE = 0.03
"""The last learning rate, as a part of the highest."""
CLIP = 1.0
"""Largest norm of the gradient."""
SHIFTS = 8
"""px: for the term `depicted` the photograph and its painting are shifted by less than this."""


@dataclass(frozen=True)
class Stage:
    """Steps of one kind: the side of the crops in px, crops a step, and whether the objective is the loss."""

    steps: int
    size: int
    batch: int
    main: bool = True


@dataclass
class Run:
    """A training under way: the network, its optimiser and the number of steps done."""

    net: Net
    optimiser: torch.optim.Optimizer
    done: int = 0


def train(
    params: TrainParams,
    photographs: list[Path],
    style: StyleTargets,
    networks: LossNetworks,
    folder: Path,
    *,
    warm: Path | None = None,
    device: str = "cpu",
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[Step], None] = lambda step: None,
) -> tuple[Net, Card] | None:
    """Train to the end and return the network and its card, or None where `should_stop` said so.

    The state, `losses.csv` and previews are written to `folder`. A run that was stopped goes on from there, and on the
    CPU gives the same weights, bit for bit, as an unbroken run. `warm` is the checkpoint that `params.warm_start`
    names. Raises BadParameter where `folder` holds a run of other parameters, photographs or style, and where the loss
    is not finite.
    """
    keep_memory()
    params = params.model_copy(update={"steps": params.steps or max(1, len(photographs) // params.batch)})
    stages = plan(params)
    total = sum(stage.steps for stage in stages)
    batches = Batches(photographs, params.size, params.seed, augment=params.recipe == "ours")
    networks = networks.to(device)
    objective = networks.objective(params, style)
    identity = _identity(params, photographs, style, networks, warm)
    run = _begin(params, identity, networks.source, folder, device, warm)
    start_log(folder, run.done, objective.TERMS)
    preview = batches.middle(2 * params.size)
    for stage, within, first in _remaining(stages, run.done):
        begun = time.monotonic()
        pictures = batches(first, stage.size, stage.batch).to(device, memory_format=torch.channels_last)
        kind = torch.device(device).type
        with torch.autocast(kind, torch.bfloat16, enabled=has_bfloat16(kind)):
            paintings = run.net(pictures)
            if stage.main:
                losses = objective.of(pictures, shift_of(params.seed, run.done))(paintings)
            else:
                losses = {"total": reproduction_loss(pictures, paintings)}
        if not losses["total"].isfinite():
            raise BadParameter(f"The loss of step {run.done + 1} is {losses['total'].item()}. Try a lower lr.")
        lr = _rate(params, stages, stage, within, run.done)
        update(run, losses["total"], lr, clip=params.recipe == "ours")
        run.done += 1
        step = Step(run.done, total, {k: v.item() for k, v in losses.items()}, lr, time.monotonic() - begun)
        log_step(folder, step, stage.main)
        on_step(step)
        if run.done % PREVIEW_EVERY == 0 or run.done == total:
            _write_preview(folder, run, preview, device)
        stop = run.done < total and should_stop()
        if stop or run.done % SAVE_EVERY == 0 or run.done == total:
            state = {"net": own_weights(run.net), "optimiser": run.optimiser.state_dict(), "done": run.done}
            save_state(folder / STATE, identity, state)
        if stop:
            return None
    return run.net.cpu(), _card(run, params, photographs, style, networks, folder, warm, device)


def plan(params: TrainParams) -> list[Stage]:
    """The stages of a training. `params.steps` counts the steps under the objective."""
    steps = params.steps or 0
    if params.recipe == "report":
        return [Stage(steps, params.size, params.batch)]
    small = round(SMALL * steps)
    half = max(params.size // 2, 64)
    stages = [
        Stage(0 if params.warm_start else min(REPRODUCTION, steps), half, 2 * params.batch, main=False),
        Stage(small, half, 2 * params.batch),
        Stage(steps - small, params.size, params.batch),
    ]
    return [stage for stage in stages if stage.steps]


def reproduction_loss(photographs: Tensor, paintings: Tensor) -> Tensor:
    """The squared error of the pixels, in units of `PIXEL_SCALE`; a scalar.

    The mean brightness is left out: InstanceNorm removes it.
    """
    wanted = photographs - photographs.mean((2, 3), keepdim=True) + PIXEL_MEAN
    return content_loss(paintings, wanted) / PIXEL_SCALE**2


def shift_of(seed: int, step: int) -> tuple[int, int]:
    """Rows and columns that the term `depicted` leaves out in this step."""
    down, across = np.random.default_rng([seed, 3, step]).integers(SHIFTS, size=2).tolist()
    return down, across


def _remaining(stages: list[Stage], done: int) -> Iterator[tuple[Stage, int, int]]:
    """Yield (stage, step within it, number of the first picture) of every step left."""
    number = first = 0
    for stage in stages:
        for within in range(stage.steps):
            if number >= done:
                yield stage, within, first
            number += 1
            first += stage.batch


def _rate(params: TrainParams, stages: list[Stage], stage: Stage, within: int, done: int) -> float:
    """The learning rate of a step. In our recipe it rises first, and under the objective falls as a cosine."""
    if params.recipe == "report":
        return params.lr
    if not stage.main:
        return params.lr * rising(within)
    before = sum(stage.steps for stage in stages if not stage.main)
    part = (done - before) / (sum(stage.steps for stage in stages) - before)
    return params.lr * falling(part)


def rising(step: int) -> float:
    """Part of the learning rate in step `step`, counted from 0."""
    return min(1, (step + 1) / RISING)


def falling(part: float) -> float:
    """Part of the learning rate after `part` of a training: a cosine."""
    return LEAST_RATE + (1 - LEAST_RATE) * (1 + cos(pi * part)) / 2


def update(run: Run, loss: Tensor, lr: float, clip: bool) -> None:
    """Make one step of the optimiser, unless a gradient is not finite."""
    run.optimiser.param_groups[0]["lr"] = lr
    run.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    weights = [p for p in run.net.parameters() if p.requires_grad]
    norm = nn.utils.clip_grad_norm_(weights, CLIP if clip else float("inf"))
    if norm.isfinite():  # on a plain crop fifteen InstanceNorms can amplify a gradient to infinity
        run.optimiser.step()


def _identity(
    params: TrainParams, photographs: list[Path], style: StyleTargets, networks: LossNetworks, warm: Path | None
) -> Identity:
    """Facts that must be the same for a run to go on: parameters, photographs (by name and size), style, loss networks,
    encoder and warm start. With another source than `bundled` the encoder is the loss network."""
    names = "\n".join(f"{path.name} {path.stat().st_size}" for path in photographs)
    return {
        "parameters": params.model_dump_json(exclude_none=True),
        "photographs": sha256(names.encode()).hexdigest(),
        "style image": style.sha256,
        "loss networks": networks.sha256,
        "encoder": ENCODER.sha256 if params.arch == "vgg16" and networks.source == "bundled" else "",
        "warm start": file_sha256(warm) if warm else "",
    }


def _begin(params: TrainParams, identity: Identity, source: str, folder: Path, device: str, warm: Path | None) -> Run:
    """A new run, or the one that `folder` holds."""
    torch.manual_seed(params.seed)
    net = build(params.arch, load_encoder(source) if params.arch == "vgg16" else None, params.upsample)
    if warm:
        net.load_state_dict(own_weights(load(warm, source)), strict=False)
    net.layers.requires_grad_(True)
    net = net.to(device).to(memory_format=torch.channels_last)
    run = Run(net, torch.optim.Adam([p for p in net.parameters() if p.requires_grad], params.lr))
    if state := load_state(folder / STATE, identity, params, device):
        net.load_state_dict(state["net"], strict=False)
        run.optimiser.load_state_dict(state["optimiser"])
        run.done = state["done"]
    folder.mkdir(parents=True, exist_ok=True)
    return run


def _write_preview(folder: Path, run: Run, photograph: Tensor, device: str) -> None:
    """The photograph and its painting side by side, as `preview-<step>.png`."""
    with torch.no_grad():
        painting = run.net(photograph.to(device)).cpu()
    both = to_array(torch.cat([photograph, painting], 3))  # (H, 2W, 3)
    with replacing(folder / f"preview-{run.done:06d}.png") as temporary:
        Image.fromarray(both).save(temporary)


def _card(
    run: Run,
    params: TrainParams,
    photographs: list[Path],
    style: StyleTargets,
    networks: LossNetworks,
    folder: Path,
    warm: Path | None,
    device: str,
) -> Card:
    rows = [losses_of(row) for row in read_log(folder) if row["main"]]

    def mean(some: list[dict[str, float]]) -> dict[str, float]:
        return {name: float(np.mean([row[name] for row in some])) for name in some[0]}

    return Card(
        params=params,
        style_sha256=style.sha256,
        images=len(photographs),
        folders=dict(Counter(path.parent.name for path in photographs)),
        loss_network=networks.name,
        loss_network_sha256=networks.vgg.sha256,
        encoder_sha256=run.net.encoder.sha256 if isinstance(run.net, VGG16Net) else None,
        warm_start_sha256=file_sha256(warm) if warm else None,
        first_losses=mean(rows[:MEAN_OVER]),
        last_losses=mean(rows[-MEAN_OVER:]),
        machine=device_name(device),
        created=datetime.now(UTC).replace(microsecond=0),
        bits=8 if params.arch == "vgg16" else 16,
    )
