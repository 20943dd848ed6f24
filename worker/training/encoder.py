"""Train VGG16Net's encoder: the loss network's convolutions, frozen, and four more to relu4_2.

The four learn in a whole VGG16Net that reproduces photographs. Its other layers are discarded afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from impasto.core.device import has_bfloat16
from impasto.core.errors import BadParameter
from impasto.core.losses.networks import LossNetworks
from impasto.core.losses.objective import DEPICTED_LAYERS, clamped, unexplained, units_of
from impasto.core.memory import keep_memory
from impasto.core.nets.painters import VGG16Net
from impasto.core.nets.vgg import VGG16
from impasto.worker.training.photographs import Batches
from impasto.worker.training.train import Run, falling, reproduction_loss, rising, shift_of, update

DEPTH = 9
"""Convolutions of VGG16 to relu4_2."""

SIZE, BATCH, LR = 128, 4, 1e-3
"""Side of the crops in px, crops a step, and Adam's highest learning rate."""

PIXELS = 4.0
"""Weight of the pixels; the features of each loss network have 1. At 1 the colours are learnt last."""

FEATURES = ("relu2_1", "relu3_1")
"""Layers of VGG16 that are compared."""


@dataclass(frozen=True)
class Step:
    """Report of a step: its number from 1, the number of all steps, and the weighted losses with their `total`."""

    number: int
    total: int
    losses: dict[str, float]


def train_encoder(
    networks: LossNetworks,
    batches: Batches,
    steps: int,
    *,
    seed: int = 0,
    device: str = "cpu",
    on_step: Callable[[Step], None] = lambda step: None,
) -> VGG16:
    """Train the encoder, to relu4_2, for `steps` on crops of `batches`."""
    keep_memory()
    torch.manual_seed(seed)
    networks = networks.to(device)
    encoder = _begin(networks.vgg, batches(0, SIZE, BATCH).to(device))
    net = VGG16Net(encoder).to(device).to(memory_format=torch.channels_last)
    run = Run(net, torch.optim.Adam([p for p in net.parameters() if p.requires_grad], LR))
    for step in range(steps):
        photographs = batches(step * BATCH, SIZE, BATCH).to(device, memory_format=torch.channels_last)
        kind = torch.device(device).type
        with torch.autocast(kind, torch.bfloat16, enabled=has_bfloat16(kind)):
            losses = _losses(networks, photographs, net(photographs), shift_of(seed, step))
        if not losses["total"].isfinite():
            raise BadParameter(f"The loss of step {step + 1} is {losses['total'].item()}. Try another seed.")
        update(run, losses["total"], LR * rising(step) * falling(step / steps), clip=True)
        on_step(Step(step + 1, steps, {name: loss.item() for name, loss in losses.items()}))
    return encoder.requires_grad_(False).cpu()


@torch.no_grad()
def _begin(front: VGG16, pictures: Tensor) -> VGG16:
    """An encoder with the first convolutions of `front`. The others start at random, scaled so that features keep their
    deviation."""
    encoder = VGG16(depth=DEPTH).to(pictures.device)
    encoder.convs.load_state_dict(front.convs.state_dict(), strict=False)
    names = list(encoder.convs)
    for before, name in list(pairwise(names))[len(front.convs) - 1 :]:
        conv = encoder.convs[name].requires_grad_(True)
        nn.init.kaiming_normal_(conv.get_parameter("weight"))
        nn.init.zeros_(conv.get_parameter("bias"))
        features = encoder(pictures, [before, name], padding_mode="reflect")
        conv.get_parameter("weight").mul_(features[before].std() / features[name].std())
    return encoder


def _losses(networks: LossNetworks, photographs: Tensor, given: Tensor, shift: tuple[int, int]) -> dict[str, Tensor]:
    """Weighted losses of the reproductions `given`, and their `total`; scalars."""
    seen, (down, across) = clamped(given), shift

    def features(pictures: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return networks.vgg(pictures, FEATURES), networks.squeezenet(pictures[..., down:, across:], DEPICTED_LAYERS)

    with torch.no_grad():
        detail, depicted = features(photographs)
    own_detail, own_depicted = features(seen)
    losses = {
        "pixels": PIXELS * reproduction_loss(photographs, given),
        "detail": unexplained(own_detail, detail, units_of(detail)),
        "depicted": unexplained(own_depicted, depicted, units_of(depicted)),
    }
    return losses | {"total": torch.stack(list(losses.values())).sum()}
