"""Painting at once: `Studio` owns the models, the engine, the sandbox and the slots. One for each process."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from impasto.api.services.examples import Examples
from impasto.api.services.slots import Slots
from impasto.api.services.upload_cache import UploadCache
from impasto.core.errors import ImpastoError, Stopping
from impasto.core.names import ARCHES
from impasto.core.nets.checkpoints import Zoo
from impasto.core.paint_params import CompareParams, PaintParams
from impasto.core.pictures.codec import Bytes, Picture, encode
from impasto.core.pictures.sandbox import Terms, open_sandbox
from impasto.core.settings import Settings
from impasto.core.stylize.budget import Budget, Work
from impasto.core.stylize.compare import compare
from impasto.core.stylize.engine import Painter, open_engine
from impasto.core.stylize.stylize import paint

SHARE = 0.75
"""The part of the memory for pictures that one client may take."""

log = logging.getLogger("impasto")


class Stopwatch:
    """Seconds of each part of the work, by name."""

    def __init__(self) -> None:
        self.spans: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.spans[name], self._last = now - self._last, now


@dataclass(frozen=True)
class Painted:
    """An encoded painting, and the seconds that each part of the work took."""

    data: bytes
    spans: dict[str, float]
    etag: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "etag", sha256(self.data).hexdigest()[:32])


class Studio:
    """Paints what it is sent. `state` is `loading`, `ready`, or the reason why nothing can be painted."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.zoo = Zoo(settings.models, settings.styles)
        self.sandbox = open_sandbox(Terms(settings.limits), settings.sandbox)
        self.budget = Budget(settings.memory, settings.max_seconds, settings.max_painted, share=SHARE)
        self.on_engine: Callable[[str, float], None] = lambda model, seconds: None
        self.slots = Slots(settings.slots, settings.queue)
        self.example_slots = Slots(1, 1000)  # its pictures are small, come in dozens, and keep no painting waiting
        self.engine = open_engine(settings)
        self.examples = Examples(self.engine, settings.cache_folder)
        self.uploads = UploadCache()
        self.state = "loading"
        self._closing = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether something is being painted."""
        return bool(self.slots.taken or self.example_slots.taken)

    def close(self) -> None:
        """Let what is being painted end, and forget what waits."""
        self._closing.set()
        self.slots.close()
        self.example_slots.close()

    def warm(self) -> None:
        """Have a decoder and a model ready, so that a first picture need not wait. Never raises."""
        entries = self.zoo.entries()
        if not entries:
            self.state = "no models: there is no checkpoint in the folders of IMPASTO_MODELS and IMPASTO_STYLES"
            log.error(self.state)
            return
        names = ("aonet", "coco", "wave")
        names = names if names in entries else next(iter(entries))
        try:
            painter, grey = self.engine.painter(entries[names].path), np.full((256, 256, 3), 128, np.uint8)
            painter(grey)  # the first is slowed by what is made for it
            begun = time.perf_counter()
            painter(grey)
            self.budget.learn(names[0], 256 * 256, time.perf_counter() - begun)
            self.sandbox.warm()
            self.state = "ready"
        except Exception as error:  # a cache that cannot be written, a device that is not there
            self.state = error.message if isinstance(error, ImpastoError) else "no model could be loaded: see the log"
            log.exception("no model could be loaded")

    def decode(self, data: bytes, client: str) -> Picture:
        """Return the pixels of a picture that a client has sent. Raises what `Sandbox.open` and `Budget.room` raise."""
        if self._closing.is_set():
            raise Stopping
        with self.sandbox.open(data) as sent, self.budget.room(Work(sent.height, sent.width), client):
            return sent.pixels()

    def stylize(self, data: bytes, client: str, params: PaintParams) -> Painted:
        """Bytes of a photograph -> its painting. Raises what the zoo, `decode` and the engine raise."""
        watch = Stopwatch()
        path = self.zoo.find(params.arch, params.dataset, params.style).path  # first: it costs least
        arch = params.arch if params.strength else None  # the photograph itself needs no network
        with self.sandbox.open(data) as sent:
            work = Work(sent.height, sent.width, arch, params.paint_size, params.max_side)
            with self.budget.room(work, client):
                picture = sent.pixels()
                watch.lap("decode")
                painting = paint(self._painter(path), picture, params, self.budget.painted)
                watch.lap("engine")
                return self._encoded(painting, params, watch)

    def compare(self, data: bytes, client: str, params: CompareParams) -> Painted:
        """Bytes of a photograph -> a sheet of what each model asked for paints of it. Raises what `stylize` raises."""
        watch = Stopwatch()
        models = self.zoo.select(params.arch, params.dataset, params.style)
        costliest = max((arch for arch, _, _ in models), key=lambda arch: ARCHES[arch].memory)
        with self.sandbox.open(data) as sent:
            work = Work(sent.height, sent.width, costliest, params.seen_side, params.painted_side, len(models))
            with self.budget.room(work, client):
                picture = sent.pixels()
                watch.lap("decode")
                sheet = compare(models, self._painter, picture, params)
                watch.lap("engine")
                return self._encoded(sheet, params, watch)

    def _painter(self, path: Path) -> Painter:
        """Return the network of a checkpoint. The budget and the metrics learn how long it takes."""
        painter, names = self.engine.painter(path), path.with_suffix("").parts[-3:]

        def timed(rgb: Bytes) -> Bytes:
            begun = time.perf_counter()
            painting = painter(rgb)
            seconds = time.perf_counter() - begun
            self.budget.learn(names[0], rgb.shape[0] * rgb.shape[1], seconds)
            self.on_engine("/".join(names), seconds)
            return painting

        return timed

    def _encoded(self, painting: Picture, params: PaintParams | CompareParams, watch: Stopwatch) -> Painted:
        data = encode(painting, params.format)
        watch.lap("encode")
        self.state = "ready"
        return Painted(data, watch.spans)
