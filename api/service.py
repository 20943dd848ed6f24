"""What the routes work with: zoo, engine, limits and slots, opened at start and closed at the end."""

import logging
import time
from dataclasses import dataclass

import numpy as np

from api.slots import Slots
from core.checkpoints import Zoo
from core.engine import Engine
from core.errors import ImpastoError
from core.images import Limits, decode, encode
from core.paint import paint
from core.recipes import PaintParams
from core.settings import Settings

log = logging.getLogger("impasto")


@dataclass(frozen=True)
class Painted:
    """An encoded painting, and the seconds that each part of the work took."""

    data: bytes
    spans: dict[str, float]


class Service:
    """One for each process. `state` is `loading`, `ready`, or says why nothing can be painted."""

    def __init__(self, settings: Settings) -> None:
        self.zoo = Zoo(settings.models, settings.styles)
        self.limits = Limits(settings.max_bytes, settings.max_pixels)
        self.slots = Slots(settings.slots, settings.queue)
        self.engine = Engine(
            settings.cache_folder,
            device=settings.device,
            threads=settings.threads,
            loaded=settings.loaded,
            vgg16=settings.vgg16,
        )
        self.state = "loading"

    def warm(self) -> None:
        """Load a model and paint with it once, so that a first picture need not wait."""
        entries = self.zoo.entries()
        if not entries:
            self.state = "no models: there is no checkpoint in the folders of IMPASTO_MODELS and IMPASTO_STYLES"
            log.error(self.state)
            return
        first = entries.get(("aonet", "coco", "wave")) or next(iter(entries.values()))
        try:
            self.engine.painter(first.path)(np.full((256, 256, 3), 128, np.uint8))
            self.state = "ready"
        except ImpastoError as error:
            self.state = error.message
            log.error("%s", error)

    def stylize(self, data: bytes, params: PaintParams) -> Painted:
        """Bytes of a photograph -> bytes of its painting. Raises what decoding, the zoo and the engine raise."""
        begun = time.perf_counter()
        picture = decode(data, self.limits)
        decoded = time.perf_counter()
        painter = self.engine.painter(self.zoo.find(params.arch, params.dataset, params.style).path)
        painting = paint(painter, picture, params)
        painted = time.perf_counter()
        encoded = encode(painting, params.format)
        spans = {"decode": decoded - begun, "engine": painted - decoded, "encode": time.perf_counter() - painted}
        return Painted(encoded, spans)
