"""The name of what computes here, for whoever reports a time."""

import os
import platform
from pathlib import Path

INFO = Path("/proc/cpuinfo")


def processor() -> str:
    """The processor's name, its widest instructions and how many cores this process may use."""
    lines = INFO.read_text().splitlines() if INFO.exists() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    best = next((f"{flag}, " for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags), "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {best}{cores} cores"


def device_name(device: str) -> str:
    """The same of a torch device, such as `cpu` or `cuda:0`."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()
