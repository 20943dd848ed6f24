"""A picture as an array and as a tensor. Needs torch, which `core.pictures.codec` does not."""

import torch
from torch import Tensor

from impasto.core.pictures.codec import Bytes


def to_tensor(rgb: Bytes, device: str | torch.device = "cpu") -> Tensor:
    """uint8 (H, W, 3) -> float32 (1, 3, H, W), 0..255; contiguous, as L-BFGS needs it."""
    return torch.tensor(rgb, device=device).permute(2, 0, 1)[None].float().contiguous()


def to_array(picture: Tensor) -> Bytes:
    """(1, 3, H, W), any values -> uint8 (H, W, 3), rounded and clipped to 0..255."""
    return picture[0].permute(1, 2, 0).clamp(0, 255).round().byte().cpu().numpy()
