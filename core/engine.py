"""A checkpoint, compiled: uint8 picture in, uint8 picture out, as fast as the machine can.

On the CPU that is OpenVINO, converted from the torch module itself: one model of dynamic shape for each checkpoint,
bfloat16 where the processor has it, float32 elsewhere. The converted form is kept on disk, so that later starts need
no torch. On CUDA, or where OpenVINO is missing, the torch module runs as it is.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from core import checkpoints
from core.errors import BadParameter
from core.files import replacing_folder
from core.images import Bytes
from core.names import MIN_SIDE

if TYPE_CHECKING:
    from torch import Tensor, nn

Painter = Callable[[Bytes], Bytes]
"""uint8 RGB (H, W, 3), from 16 px a side -> its painting, of the same shape. Safe to call from many threads."""

Device = Literal["auto", "cpu", "cuda"]

_FORM = 1  # of the converted models on disk: raise it when what `_module` computes changes
_KEEP_PIXELS = 4_000_000  # a larger picture's working memory, about 700 bytes a pixel, is given back after it


class Engine:
    """Painters by checkpoint file: each made when first asked for, the `loaded` last used kept."""

    def __init__(
        self, cache: Path, *, device: Device = "auto", threads: int = 0, loaded: int = 4, vgg16: str = "bundled"
    ) -> None:
        self.cache, self.threads, self.loaded, self.vgg16 = cache, threads, loaded, vgg16
        self.device = _find_device(device)
        self._painters: OrderedDict[str, Painter] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}

    def painter(self, path: Path) -> Painter:
        """The painter of the checkpoint at `path`. Raises BadCheckpoint."""
        stat = path.stat()
        key = f"{path.resolve()}:{stat.st_mtime_ns}:{stat.st_size}"
        with self._lock:
            if painter := self._recall(key):
                return painter
            making = self._making.setdefault(key, threading.Lock())
        with making:  # one thread makes it, the others wait for that one and not for other models
            with self._lock:
                if painter := self._recall(key):
                    return painter
            painter = self._make(path)
            with self._lock:
                self._painters[key] = painter
                self._making.pop(key, None)
                while len(self._painters) > self.loaded:
                    self._painters.popitem(last=False)
        return painter

    def _recall(self, key: str) -> Painter | None:
        if key in self._painters:
            self._painters.move_to_end(key)
        return self._painters.get(key)

    def _make(self, path: Path) -> Painter:
        stride = checkpoints.read_card(path).stride
        if self.device == "cpu" and has_openvino():
            return OpenVinoPainter(self._converted(path), stride, self.threads)
        return TorchPainter(checkpoints.load(path, self.vgg16), self.device)

    def _converted(self, path: Path) -> Path:
        """OpenVINO's form of the checkpoint: converted now, or kept under the hash of all that it depends on."""
        parts = (path.read_bytes(), self.vgg16.encode(), version("openvino").encode(), str(_FORM).encode())
        folder = self.cache / "engine" / sha256(b"\0".join(parts)).hexdigest()[:24]
        if not folder.exists():
            with replacing_folder(folder) as temporary:
                convert(checkpoints.load(path, self.vgg16), temporary / "model.xml")
        return folder / "model.xml"


class OpenVinoPainter:
    """A compiled model of dynamic shape, and a pool of its inference requests."""

    def __init__(self, model: Path, stride: int, threads: int = 0) -> None:
        self.stride = stride
        config = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": cpu_precision()}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        self._compiled = _core().compile_model(model, "CPU", config)
        self._idle: list[Any] = []  # append and pop are atomic

    def __call__(self, rgb: Bytes) -> Bytes:
        height, width = rgb.shape[:2]
        padded = pad(rgb, self.stride)
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        painting = request.infer([padded[None]])[0][0, :height, :width].copy()  # (H, W, 3)
        if height * width <= _KEEP_PIXELS:
            self._idle.append(request)
        else:
            del request
            self._compiled.release_memory()
        return painting  # type: ignore[no-any-return]


class TorchPainter:
    """The torch module as it is, in bfloat16 on a GPU that has it."""

    def __init__(self, net: Any, device: str) -> None:
        import torch

        self.stride = net.stride
        self.device = device
        self._bfloat16 = device == "cuda" and torch.cuda.is_bf16_supported()
        self._module = _module(net).to(device).to(memory_format=torch.channels_last)

    def __call__(self, rgb: Bytes) -> Bytes:
        import torch

        height, width = rgb.shape[:2]
        padded = torch.from_numpy(pad(rgb, self.stride))[None].to(self.device)
        with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16, enabled=self._bfloat16):
            painting = self._module(padded)[0, :height, :width]
        return painting.cpu().numpy()  # type: ignore[no-any-return]


def pad(rgb: Bytes, stride: int) -> Bytes:
    """`rgb` (H, W, 3), grown below and to the right by reflection to multiples of `stride`.

    Raises BadParameter for a side under 16 px.
    """
    height, width = rgb.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise BadParameter(f"The picture is {width}x{height}: the networks paint from {MIN_SIDE} px a side.")
    below, right = -height % stride, -width % stride
    if below or right:
        rgb = np.pad(rgb, ((0, below), (0, right), (0, 0)), mode="reflect")
    return np.ascontiguousarray(rgb)


def convert(net: Any, path: Path) -> None:
    """Write OpenVINO's form of a torch network to `path` (.xml, weights beside it): uint8 (1, H, W, 3) in and out."""
    import torch

    example = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: the module has no branch on its input
        model = _openvino().convert_model(_module(net), example_input=example, input=[1, -1, -1, 3])
    _openvino().save_model(model, path, compress_to_fp16=True)


def has_openvino() -> bool:
    return find_spec("openvino") is not None


@cache
def cpu_precision() -> Literal["bf16", "f32"]:
    """What OpenVINO computes in on this processor."""
    return "bf16" if "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def _openvino() -> Any:
    """The library, without the telemetry that it brings along: nothing we ship calls home."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@cache
def _core() -> Any:
    return _openvino().Core()


def _find_device(device: Device) -> str:
    """`cpu` or `cuda`; torch is asked only where there may be a GPU, since importing it takes seconds."""
    if device != "auto":
        return device
    if not Path("/dev/nvidiactl").exists():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _module(net: Any) -> nn.Module:
    """`net` folded, between uint8 pictures (1, H, W, 3) whose sides are multiples of its stride."""
    import torch

    from core.nets import fold

    class Painting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = fold(net)

        def forward(self, rgb: Tensor) -> Tensor:
            picture = rgb.permute(0, 3, 1, 2).float()  # (1, 3, H, W)
            painting = self.net.body(picture).float()
            return painting.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)

    return Painting().eval()
