"""The state of a long run on disk: a run that was stopped or killed goes on from it."""

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError

from impasto.core.errors import BadParameter
from impasto.core.files import replacing

Identity = dict[str, str]
"""Facts that must be the same for a run to go on, by name; `parameters` is JSON."""


def save_state(path: Path, identity: Identity, state: dict[str, Any]) -> None:
    """Write `state`, plain values and tensors, and the run's identity. `state["done"]` counts the steps."""
    with replacing(path) as temporary:
        torch.save({"identity": identity, **state}, temporary)


def load_state(path: Path, identity: Identity, params: BaseModel, device: str | torch.device) -> dict[str, Any] | None:
    """Read the state at `path`; None where there is no file.

    `params` are the parameters in `identity`. Raises BadParameter where the file holds no state, and where it is that
    of another run.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        other = differences(state["identity"], identity, params)
    except Exception as error:  # torch.load has no error of its own for a damaged file
        raise BadParameter(f"{path} does not hold the state of a run. Remove it to start anew.") from error
    if other:
        raise BadParameter(
            f"{path} holds a run with other {' and '.join(other)}, {state['done']} steps done. Give the same again to "
            "go on with it, or remove the file to start anew."
        )
    return state


def differences(saved: Identity, now: Identity, params: BaseModel) -> list[str]:
    """Names of the facts that differ between the saved run and this one.

    `params` are the parameters in `now`. A parameter that an older run did not save has its default.
    """
    try:
        same = type(params).model_validate_json(saved.get("parameters", "")) == params
    except ValidationError:
        same = False
    equal = {"parameters": now["parameters"]} if same else {}
    return [name for name, value in now.items() if (saved | equal).get(name) != value]
