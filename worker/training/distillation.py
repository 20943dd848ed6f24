"""Train a network layer by layer to compute what another of the same layout computes.

The loss networks in the clone are made so. Each convolution starts at random. From the input of the teacher's
convolution it learns the teacher's output after ReLU. So no layer learns from the errors of another, and all learn at
once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from impasto.core.losses.terms import gram
from impasto.core.memory import keep_memory

MOMENTUM = 0.8
"""Steps are short where ReLU is 0 for most inputs, and momentum lengthens them. It is off in the last third of the
epochs, where it would oscillate."""
DAMPING = 1e-6
"""Added to the mean squares of the inputs, as a part of their own mean, for directions without variance."""


@dataclass(frozen=True)
class Step:
    """Report of a step: its number from 1, the number of all steps, and the unexplained part of the variance of the
    worst layer's output."""

    number: int
    total: int
    unexplained: float


Features = Callable[[nn.Module, Tensor], dict[str, Tensor]]
"""A network and pictures (B, 3, H, W) in 0..255 -> its features by layer."""


@torch.no_grad()
def distil(
    teacher: nn.Module,
    student: nn.Module,
    features: Features,
    batches: Sequence[Tensor],
    epochs: int,
    *,
    on_step: Callable[[Step], None] = lambda step: None,
) -> None:
    """Train `student`, in place, on `batches` (B, 3, H, W), with one step of descent an epoch.

    `features` runs every convolution that the two share. Plain gradient descent would take forever, as neighbouring
    pixels are alike. So the gradient is multiplied by the inverse of the mean squares of the layer's inputs. Where ReLU
    is 0 for some inputs Newton's step would be longer; this step never overshoots.
    """
    keep_memory()
    seen: dict[str, tuple[Tensor, Tensor]] = {}  # input and output of each of the teacher's convolutions
    layers = {name: _Layer(module) for name, module in student.named_modules() if isinstance(module, nn.Conv2d)}
    hooks = [
        module.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)}))
        for name, module in teacher.named_modules()
        if name in layers
    ]
    try:
        for epoch in range(epochs):
            for number, pictures in enumerate(batches):
                features(teacher, pictures)
                for name, layer in layers.items():
                    if not epoch:
                        layer.measure(seen[name][0])
                    layer.compare(*seen[name])
                unexplained = max(layer.unexplained for layer in layers.values())
                on_step(Step(epoch * len(batches) + number + 1, epochs * len(batches), unexplained))
            for layer in layers.values():
                layer.descend(MOMENTUM if 3 * epoch < 2 * epochs else 0)
    finally:
        for hook in hooks:
            hook.remove()


class _Layer:
    """A convolution that learns, and its sums over an epoch. K is the number of inputs of its kernel and bias."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.conv = conv
        outputs, inputs = conv.weight.shape[0], conv.weight[0].numel() + 1
        self.squares = torch.zeros(inputs, inputs, dtype=torch.float64)  # (K, K)
        self.places = 0
        self.inverse: Tensor | None = None
        self.velocity = torch.zeros(outputs, inputs, dtype=torch.float64)
        self._begin(outputs, inputs)

    def _begin(self, outputs: int, inputs: int) -> None:
        self.gradient, self.compared = torch.zeros(outputs, inputs, dtype=torch.float64), 0
        self.error = self.spread = 0.0

    @property
    def unexplained(self) -> float:
        """Unexplained part of the variance of the wanted output, this epoch."""
        return self.error / max(self.spread, 1e-12)

    def measure(self, inputs: Tensor) -> None:
        unfolded = F.unfold(inputs, self.conv.kernel_size, padding=self.conv.padding, stride=self.conv.stride)  # type: ignore[arg-type]
        patches = F.pad(unfolded.transpose(1, 2).flatten(0, 1), (0, 1), value=1)  # (B * places, K)
        self.squares += (patches.T @ patches).double()
        self.places += len(patches)

    def compare(self, inputs: Tensor, output: Tensor) -> None:
        """Add the gradient of a batch: the output of this layer for `inputs` against `output`, both after ReLU."""
        wanted, given = F.relu(output), self.conv(inputs)
        # No error where both are below 0; but a channel without any output must learn to have some.
        error = (given - wanted) * ((wanted > 0) | (given > 0))
        kernel: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
            inputs,
            self.conv.weight.shape,
            error,
            self.conv.stride,
            self.conv.padding,
        )
        self.gradient += torch.cat([kernel.flatten(1), error.sum((0, 2, 3))[:, None]], 1).double()
        self.compared += error[:, 0].numel()
        self.error += (F.relu(given) - wanted).square().sum().item()
        self.spread += (wanted - wanted.mean((0, 2, 3), keepdim=True)).square().sum().item()

    def descend(self, momentum: float) -> None:
        if self.inverse is None:
            squares = self.squares / self.places
            self.inverse = torch.linalg.inv(squares + DAMPING * squares.diagonal().mean() * torch.eye(len(squares)))
        self.velocity = momentum * self.velocity + self.gradient / self.compared @ self.inverse
        step = self.velocity.float()  # (N, K)
        self.conv.weight -= step[:, :-1].reshape(self.conv.weight.shape)
        self.conv.get_parameter("bias").sub_(step[:, -1])
        self._begin(*step.shape)


@torch.no_grad()
def likeness(
    teacher: nn.Module, student: nn.Module, features: Features, pictures: list[Tensor]
) -> dict[str, tuple[float, float]]:
    """By layer, end to end: the part of the variance of the teacher's features that the student's explain, and the
    distance of their Gram matrices over the teacher's (Frobenius norms). Means over `pictures` (1, 3, H, W)."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for picture in pictures:
        theirs, ours = features(teacher, picture), features(student, picture)
        for layer, wanted in theirs.items():
            spread = (wanted - wanted.mean((2, 3), keepdim=True)).square().sum()
            explained = 1 - (ours[layer] - wanted).square().sum() / spread
            target = gram(wanted)
            apart = (gram(ours[layer]) - target).norm() / target.norm()
            rows.setdefault(layer, []).append((float(explained), float(apart)))
    return {
        layer: (sum(e for e, _ in row) / len(row), sum(g for _, g in row) / len(row)) for layer, row in rows.items()
    }
