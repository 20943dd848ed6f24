"""The device that networks run on: CPU or GPU, its name, and the precision that is fastest there."""

import os
import platform
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from impasto.core.errors import Unavailable
from impasto.core.names import Device

INFO = Path("/proc/cpuinfo")


def find_device(device: Device) -> str:
    """Return `cpu` or `cuda`. Raises Unavailable where a GPU is asked for and there is none.

    Torch takes seconds to import, so `auto` asks it only where there may be a GPU.
    """
    if device == "cpu" or (device == "auto" and not Path("/dev/nvidiactl").exists()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise Unavailable("There is no CUDA device, or torch was built without CUDA. Set the device to auto or cpu.")
    return "cpu"


def has_openvino() -> bool:
    """Whether OpenVINO is installed. Does not import it."""
    return find_spec("openvino") is not None


@cache
def cpu_precision() -> Literal["bf16", "f32"]:
    """The precision that OpenVINO computes in: bfloat16 where the processor has it."""
    return "bf16" if "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def has_bfloat16(device: str) -> bool:
    """Whether the device computes in bfloat16: most GPUs, and processors with AVX-512 bf16 or AMX."""
    if device == "cuda":
        import torch

        return bool(torch.cuda.is_bf16_supported())
    return has_openvino() and cpu_precision() == "bf16"


def import_openvino() -> Any:
    """Import the library without its telemetry: nothing we ship calls home."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@cache
def openvino_core() -> Any:
    """The one `openvino.Core` of this process."""
    return import_openvino().Core()


def processor() -> str:
    """The processor's name, its widest instructions and the number of cores that this process may use."""
    lines = INFO.read_text().splitlines() if INFO.exists() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    best = next((f"{flag}, " for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags), "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {best}{cores} cores"


def device_name(device: str) -> str:
    """The name of a torch device, such as `cpu` or `cuda:0`."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()
