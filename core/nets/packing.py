"""Weights in 8 bits: kernels as int8 with a float16 step for each row, everything else in float16."""

from torch import Tensor

_SCALE = ".scale"
_STEPS_A_DEVIATION = 8
"""Steps to a standard deviation of a row. More steps change no painting, and compress worse."""


def pack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert kernels to int8, each row (first axis) with its step, and everything else to float16.

    A step is an eighth of the row's standard deviation, or more where 127 steps would not reach the largest value.
    """
    packed = {}
    for name, value in tensors.items():
        if value.dim() < 4:
            packed[name] = value.half()
            continue
        rows = value.float().flatten(1)
        step = (rows.std(1, correction=0) / _STEPS_A_DEVIATION).maximum(rows.abs().amax(1) / 127)
        step = step.half().float().clamp(min=6e-8)  # float16's least: no row divides by 0
        packed[name] = (rows / step[:, None]).round().clamp(-127, 127).char().reshape(value.shape)
        packed[name + _SCALE] = step.half()
    return packed


def unpack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert to float32 tensors, packed or not. Kernels are rounded to float16, as in the engine's files."""
    return {
        name: (value.float() * tensors[name + _SCALE].float().view(-1, 1, 1, 1)).half().float()
        if name + _SCALE in tensors
        else value.float()
        for name, value in tensors.items()
        if not name.endswith(_SCALE)
    }
