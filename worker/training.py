"""Algorithm 2: train a network to paint one style, and survive being stopped at any step."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from core.checkpoints import Card, load, own_weights
from core.engine import has_bfloat16
from core.errors import BadParameter
from core.files import file_sha256, replacing
from core.machine import device_name
from core.memory import keep_memory
from core.nets import Net, build
from core.recipes import Stage, TrainParams, differences
from core.styles import StyleTargets
from core.vgg import VGG16
from worker.datasets import Batches
from worker.log import LOSSES, Step, log_step, read_log, start_log
from worker.objective import Objective, reproduction

SAVE_EVERY = 25  # steps between two savings of the state
PREVIEW_EVERY = 25  # steps between two previews
MEAN_OVER = 20  # steps that a card's losses are the mean of


@dataclass
class Run:
    """A training run under way: the network, its optimiser and how many steps are done."""

    net: Net
    optimiser: torch.optim.Optimizer
    done: int = 0


def train(
    params: TrainParams,
    photographs: list[Path],
    style: StyleTargets,
    vgg: VGG16,
    folder: Path,
    *,
    warm: Path | None = None,
    device: str = "cpu",
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[Step], None] = lambda step: None,
) -> tuple[Net, Card] | None:
    """Run Algorithm 2 to its end and return the network and its card, or None when `should_stop` said so.

    `folder` takes the state, `losses.csv` and previews; a run that was stopped goes on from there, and on the CPU gives
    the same weights, bit for bit, as one that was not. `warm` is the checkpoint that `params.warm_start` names. Raises
    BadParameter when `folder` holds a run of other parameters, photographs or style, and when the loss is no number
    any more.
    """
    keep_memory()
    params = params.model_copy(update={"steps": params.steps or max(1, len(photographs) // params.batch)})
    stages = (*params.warmup, Stage(steps=params.steps, size=params.size, batch=params.batch, lr=params.lr))
    total = sum(stage.steps for stage in stages)
    batches = Batches(photographs, params.size, params.seed, params.augment, params.tones)
    vgg = vgg.to(device).to(memory_format=torch.channels_last)
    objective = Objective(params, vgg, style)
    identity = _identity(params, photographs, style, vgg, warm)
    run = _begin(params, identity, vgg, folder, device, warm)
    _let_leak(run.net, params.leak)
    preview = batches.middle(2 * params.size)
    for stage, within, first in _remaining(stages, run.done):
        begun = time.monotonic()
        main = stage is stages[-1]
        pictures = batches(first, stage.size, stage.batch).to(device, memory_format=torch.channels_last)
        lr, weight = _schedule(params, stage, within, main)
        kind = torch.device(device).type
        with torch.autocast(kind, torch.bfloat16, enabled=has_bfloat16(kind)):
            paintings = _painted(run.net, pictures, params, run.done)
            losses = reproduction(pictures, paintings) if weight is None else objective(pictures, paintings, weight)
        if not losses["total"].isfinite():
            raise BadParameter(
                f"The loss of step {run.done + 1} is {losses['total'].item()}: try a lower lr, or a clip."
            )
        _update(run, losses["total"], params, lr)
        run.done += 1
        step = Step(
            run.done, total, {k: v.item() for k, v in losses.items()}, lr, weight or 0, time.monotonic() - begun
        )
        log_step(folder, step, main)
        on_step(step)
        if run.done % PREVIEW_EVERY == 0 or run.done == total:
            _write_preview(folder, run, params, preview, device)
        stop = run.done < total and should_stop()
        if stop or run.done % SAVE_EVERY == 0 or run.done == total:
            _save_state(folder, run, identity)
        if stop:
            return None
    return run.net.cpu(), _card(params, photographs, style, vgg, folder, warm, device)


def _let_leak(net: Net, leak: float) -> None:
    """From now on pass `leak` of the gradient through the last ReLU where it is shut; what the network paints stays."""

    def pass_on(relu: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        shut = inputs[0].clamp(max=0)
        return output + leak * (shut - shut.detach())

    if leak:
        net.layers[-2].register_forward_hook(pass_on)


def _painted(net: Net, pictures: Tensor, params: TrainParams, step: int) -> Tensor:
    """What `net` makes of pictures (B, 3, H, W), of their size, at that step.

    Unlike `core.paint` this shrinks before values are cut to 0..255, and bicubically: torch has no Lanczos.
    """
    if params.enlarged == 1:
        return net(_grained(pictures, params, step))  # type: ignore[no-any-return]
    seen = F.interpolate(pictures, scale_factor=float(params.enlarged), mode="bicubic").clamp(0, 255)
    painting = net(_grained(seen, params, step)).float()  # on a CPU antialiasing has no bfloat16
    return F.interpolate(painting, pictures.shape[2:], mode="bicubic", antialias=True)


def _grained(pictures: Tensor, params: TrainParams, step: int) -> Tensor:
    """`pictures` (B, 3, H, W) as the network is shown them at that step: each step with a grain of its own."""
    if not params.grain:
        return pictures
    batch, _, height, width = pictures.shape
    normal = torch.randn(batch, 1, height, width, generator=torch.Generator().manual_seed(params.seed + step))
    return (pictures + params.grain * normal.to(pictures.device)).clamp(0, 255).round()


def _remaining(stages: tuple[Stage, ...], done: int) -> Iterator[tuple[Stage, int, int]]:
    """(stage, step within it, number of the first picture) of every step that is still to do."""
    number = first = 0
    for stage in stages:
        for within in range(stage.steps):
            if number >= done:
                yield stage, within, first
            number += 1
            first += stage.batch


def _schedule(params: TrainParams, stage: Stage, within: int, main: bool) -> tuple[float, float | None]:
    """Learning rate and style weight of a step; no style weight where the photograph is to be given back."""
    if not main:
        return stage.lr, stage.style_weight
    part = within / stage.steps
    lr, weight = stage.lr, params.style_weight
    if params.lr_fall and part > 1 - params.lr_fall:
        lr *= 0.05 ** ((part - (1 - params.lr_fall)) / params.lr_fall)
    if params.style_from and part < 0.5:
        weight *= (params.style_from / weight) ** (1 - 2 * part)
    return lr, weight


def _update(run: Run, loss: Tensor, params: TrainParams, lr: float) -> None:
    body, output = run.optimiser.param_groups
    body["lr"], output["lr"] = lr, lr * params.output_lr
    run.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    weights = (p for p in run.net.parameters() if p.requires_grad)
    norm = nn.utils.clip_grad_norm_(weights, params.clip or float("inf"))
    if norm.isfinite():  # on an even crop fifteen InstanceNorms can multiply a gradient to infinity
        run.optimiser.step()


def _identity(
    params: TrainParams, photographs: list[Path], style: StyleTargets, vgg: VGG16, warm: Path | None
) -> dict[str, str]:
    """What a run goes on with: the same parameters, photographs (by name and size), style, loss network and start."""
    names = "\n".join(f"{path.name} {path.stat().st_size}" for path in photographs)
    return {
        "parameters": params.model_dump_json(exclude_none=True),
        "photographs": sha256(names.encode()).hexdigest(),
        "style image": style.sha256,
        "loss network": vgg.sha256,
        "warm start": file_sha256(warm) if warm else "",
    }


def _begin(
    params: TrainParams, identity: dict[str, str], vgg: VGG16, folder: Path, device: str, warm: Path | None
) -> Run:
    """A new run, or the one that `folder` holds."""
    torch.manual_seed(params.seed)
    net = build(params.arch, vgg, params.upsample)
    if warm:
        net.load_state_dict(own_weights(load(warm, vgg.source)), strict=False)
    net.let_learn(params.learns)
    net = net.to(device).to(memory_format=torch.channels_last)
    output = list(net.layers[-1].parameters())
    body = [p for p in net.parameters() if p.requires_grad and all(p is not q for q in output)]
    run = Run(net, torch.optim.Adam([{"params": body}, {"params": output}], params.lr))
    path = folder / "state.pt"
    if path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        if other := differences(state["identity"], identity, params):
            raise BadParameter(
                f"{folder} holds a run with other {' and '.join(other)}, {state['done']} steps done. Give the same "
                "again to go on with it, or another folder to start anew.",
            )
        net.load_state_dict(state["net"], strict=False)
        run.optimiser.load_state_dict(state["optimiser"])
        run.done = state["done"]
    start_log(folder, run.done)
    return run


def _save_state(folder: Path, run: Run, identity: dict[str, str]) -> None:
    state = {
        "identity": identity,
        "net": own_weights(run.net),
        "optimiser": run.optimiser.state_dict(),
        "done": run.done,
    }
    with replacing(folder / "state.pt") as temporary:
        torch.save(state, temporary)


def _write_preview(folder: Path, run: Run, params: TrainParams, photograph: Tensor, device: str) -> None:
    """The photograph and its painting side by side, as `preview-<step>.png`."""
    with torch.no_grad():
        painting = _painted(run.net, photograph.to(device), params, 0).cpu()
    both = torch.cat([photograph, painting], 3)[0].clamp(0, 255).round().byte().permute(1, 2, 0)  # (H, 2W, 3)
    with replacing(folder / f"preview-{run.done:06d}.png") as temporary:
        Image.fromarray(both.numpy()).save(temporary)


def _card(
    params: TrainParams,
    photographs: list[Path],
    style: StyleTargets,
    vgg: VGG16,
    folder: Path,
    warm: Path | None,
    device: str,
) -> Card:
    rows = [row for row in read_log(folder) if row["main"]]

    def mean(some: list[dict[str, float]]) -> dict[str, float]:
        return {name: float(np.mean([row[name] for row in some])) for name in LOSSES}

    return Card(
        params=params,
        style_sha256=style.sha256,
        images=len(photographs),
        loss_network=vgg.source if vgg.source in ("bundled", "imagenet") else Path(vgg.source).name,
        loss_network_sha256=vgg.sha256,
        warm_start_sha256=file_sha256(warm) if warm else None,
        first_losses=mean(rows[:MEAN_OVER]),
        last_losses=mean(rows[-MEAN_OVER:]),
        machine=device_name(device),
        created=datetime.now(UTC).replace(microsecond=0),
        bits=8 if params.arch == "vgg16" else 16,
    )
