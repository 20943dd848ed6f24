"""The state of an optimisation of pixels: pixels, optimiser and the best so far, in memory and on disk."""

from math import inf, isfinite
from pathlib import Path

import torch
from torch import Tensor

from impasto.core.losses.objective import Loss
from impasto.core.params import GatysParams
from impasto.core.resume import Identity, load_state, save_state

HISTORY = 20  # steps that L-BFGS remembers
FIRST_MOVE = 1.0  # levels that L-BFGS moves a pixel by or so, before it knows any curvature
UNIT = 64.0  # levels: L-BFGS moves nothing where a gradient is as small as that of a level, of 0..255


class Run:
    """An optimisation under way: the pixels in units of `UNIT`, their optimiser, the number of evaluations done and
    the pixels (1, 3, H, W) of the lowest loss."""

    def __init__(self, params: GatysParams, pixels: Tensor) -> None:
        """Start from `pixels` (1, 3, H, W), 0..255."""
        self.params, self.done = params, 0
        self.best, self.best_loss = pixels, inf
        self.units = (pixels / UNIT).requires_grad_()
        self.optimiser = _optimiser(params, self.units)

    def step(self, loss: Loss) -> dict[str, float]:
        """Evaluate the loss and its gradient once, remember the pixels if they are the best, and move them.

        Returns the losses of the pixels before the move. Where their total is not finite nothing is changed.
        """
        self.optimiser.zero_grad()
        pixels = self.units * UNIT
        losses = loss(pixels)
        scaled = losses["total"] * pixels.numel()  # so that what one pixel adds to the gradient is not tiny
        scaled.backward()  # type: ignore[no-untyped-call]
        values = {name: value.item() for name, value in losses.items()}
        if not isfinite(values["total"]):
            return values
        if values["total"] < self.best_loss:
            self.best, self.best_loss = pixels.detach(), values["total"]
        self.optimiser.step(scaled.item)
        if self.params.optimizer == "lbfgs":
            self.optimiser.param_groups[0]["lr"] = 1
        self.done += 1
        return values

    def save(self, path: Path, identity: Identity) -> None:
        """Write the state to `path`, with the identity of the run."""
        state = {
            "done": self.done,
            "units": self.units.detach(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
            "best_loss": self.best_loss,
        }
        save_state(path, identity, state)

    def load(self, path: Path, identity: Identity) -> None:
        """Go on from the state at `path`, if there is one. Raises what `load_state` raises."""
        state = load_state(path, identity, self.params, self.units.device)
        if state is None:
            return
        self.done, self.best, self.best_loss = state["done"], state["best"], state["best_loss"]
        self.units = state["units"].requires_grad_()
        self.optimiser = _optimiser(self.params, self.units)
        self.optimiser.load_state_dict(state["optimiser"])


def _optimiser(params: GatysParams, units: Tensor) -> torch.optim.Optimizer:
    """Adam, or L-BFGS with one evaluation a step and no line search.

    The `lr` of L-BFGS is the length of the whole first step. `step` sets it to 1, L-BFGS's own step, from then on.
    """
    if params.optimizer == "adam":
        return torch.optim.Adam([units], params.lr / UNIT)
    first = FIRST_MOVE / UNIT * units.numel()
    return torch.optim.LBFGS([units], lr=first, max_iter=1, history_size=HISTORY, tolerance_grad=0, tolerance_change=0)
