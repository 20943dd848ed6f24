"""A checkpoint, compiled: uint8 picture in, uint8 picture out, as fast as the machine can.

On the CPU OpenVINO runs a model converted from the torch module, of dynamic shape, in bfloat16 where the processor has
it and float32 elsewhere. The converted model is cached on disk, so that later starts need no torch. On CUDA, or where
OpenVINO is missing, the torch module runs as it is.
"""

from __future__ import annotations

import shutil
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from impasto.core.device import cpu_precision, find_device, has_openvino, import_openvino, openvino_core
from impasto.core.errors import NotFound
from impasto.core.files import replacing_folder, stamp
from impasto.core.names import Device, padding
from impasto.core.nets import checkpoints
from impasto.core.pictures.codec import Bytes
from impasto.core.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

Painter = Callable[[Bytes], Bytes]
"""uint8 RGB (H, W, 3), from 16 px a side -> its painting, of the same shape. Safe to call from many threads."""

_Key = tuple[Path, tuple[int, int]]
"""A checkpoint file, and its stamp: another when the file has changed."""

FORM = 3  # version of the converted models: raise it when the networks compute something else
_LARGE = 2_000_000  # pixels: the working memory of a larger picture, about 350 bytes a pixel, is freed afterwards


class Engine:
    """Painters by checkpoint file. Each is made at its first use; the `loaded` last used stay in memory.

    A converted model is read from the folder `converted`, which is never written to, or from `cache`.
    """

    def __init__(
        self,
        cache: Path,
        *,
        converted: Path | None = None,
        device: Device = "auto",
        threads: int = 0,
        loaded: int = 4,
        vgg16: str = "bundled",
    ) -> None:
        self.cache, self.converted = cache, converted or cache
        self.threads, self.loaded, self.vgg16 = threads, loaded, vgg16
        self.device = find_device(device)
        self._painters: OrderedDict[_Key, Painter] = OrderedDict()
        self.found = self.made = 0  # uses of a painter that was in memory, and of one that was not
        self._lock = threading.Lock()
        self._making: dict[_Key, threading.Lock] = {}

    def painter(self, path: Path) -> Painter:
        """The painter of the checkpoint at `path`. Raises BadCheckpoint, or NotFound where it is gone."""
        try:
            key = path.resolve(), stamp(path)
        except FileNotFoundError as error:
            raise NotFound(f"The model at {path} was deleted.") from error
        with self._lock:
            if painter := self._recall(key):
                return painter
            making = self._making.setdefault(key, threading.Lock())
        with making:  # one thread makes it, others wait for this model alone
            with self._lock:
                if painter := self._recall(key):
                    return painter
            try:
                painter = self._make(path)
            finally:
                with self._lock:
                    self._making.pop(key, None)
            with self._lock:
                self.made += 1
                self._painters[key] = painter
                while len(self._painters) > self.loaded:
                    self._painters.popitem(last=False)
        return painter

    def _recall(self, key: _Key) -> Painter | None:
        if key in self._painters:
            self._painters.move_to_end(key)
            self.found += 1
        return self._painters.get(key)

    def _make(self, path: Path) -> Painter:
        if self.device != "cpu" or not has_openvino():
            return TorchPainter(checkpoints.load(path, self.vgg16), self.device)
        stride = checkpoints.read_card(path).stride
        try:
            return OpenVinoPainter(self._converted(path), stride, self.threads)
        except RuntimeError:  # a damaged file in the cache: convert again
            shutil.rmtree(self._converted(path).parent, ignore_errors=True)
            return OpenVinoPainter(self._converted(path), stride, self.threads)

    def _converted(self, path: Path) -> Path:
        """The converted model, under a hash of all that it depends on. Converts the checkpoint if needed."""
        parts = (path.read_bytes(), self.vgg16.encode(), version("openvino").encode(), str(FORM).encode())
        name = sha256(b"\0".join(parts)).hexdigest()[:24]
        for place in (self.converted, self.cache):
            if (folder := place / "engine" / name).exists():
                break
        else:
            with replacing_folder(folder) as temporary:
                convert(checkpoints.load(path, self.vgg16), temporary / "model.xml")
        return folder / "model.xml"


def open_engine(settings: Settings) -> Engine:
    """Open the engine of these settings. It also looks for converted models beside the models."""
    return Engine(
        settings.cache_folder,
        converted=settings.models,
        device=settings.device,
        threads=settings.threads,
        loaded=settings.loaded,
        vgg16=settings.vgg16,
    )


class OpenVinoPainter:
    """A compiled model of dynamic shape, and a pool of its inference requests."""

    def __init__(self, model: Path, stride: int, threads: int = 0) -> None:
        self.stride = stride
        config = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": cpu_precision()}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        self._compiled = openvino_core().compile_model(model, "CPU", config)
        self._idle: list[Any] = []  # requests; each has buffers of its own
        self._lock = threading.Lock()
        self._busy = 0
        self._swollen = False

    def __call__(self, rgb: Bytes) -> Bytes:
        height, width = rgb.shape[:2]
        padded = pad(rgb, self.stride)
        with self._lock:
            self._busy += 1
            request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
        try:
            return request.infer([padded[None]])[0][0, :height, :width].copy()  # type: ignore[no-any-return]
        finally:
            self._done(request, height * width > _LARGE)

    def _done(self, request: Any, large: bool) -> None:
        """Reuse the request for the next picture. After a large picture free memory as soon as no other is painted."""
        with self._lock:
            self._busy -= 1
            self._swollen |= large
            if not large:
                self._idle.append(request)
            if self._swollen and not self._busy:
                self._compiled.release_memory()
                self._swollen = False


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
    """Pad `rgb` (H, W, 3) below and to the right by reflection to multiples of `stride`.

    Raises BadParameter for a side under 16 px.
    """
    below, right = padding(rgb.shape[0], rgb.shape[1], stride)
    if below or right:
        rgb = np.pad(rgb, ((0, below), (0, right), (0, 0)), mode="reflect")
    return np.ascontiguousarray(rgb)


_tracing = threading.Lock()
"""Torch's state of a trace is global: two traces at the same time both fail."""


def convert(net: Any, path: Path) -> None:
    """Write a torch network as an OpenVINO model to `path` (.xml, weights beside it): uint8 (1, H, W, 3) in and out."""
    import torch

    example = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with _tracing, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: the module has no branch on its input
        model = import_openvino().convert_model(_module(net), example_input=example, input=[1, -1, -1, 3])
    import_openvino().save_model(model, path, compress_to_fp16=True)


def _module(net: Any) -> nn.Module:
    """`net`, folded, as a module from uint8 to uint8 (1, H, W, 3), with sides that are multiples of its stride."""
    import torch

    from impasto.core.nets.painters import fold

    class Painting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = fold(net)

        def forward(self, rgb: Tensor) -> Tensor:
            picture = rgb.permute(0, 3, 1, 2).float()  # (1, 3, H, W)
            painting = self.net.body(picture).float()
            return painting.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)

    return Painting().eval()
