"""The service that routes call: zoo, engine, limits and slots, opened at start and closed at the end."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from impasto.api.broker import Broker
from impasto.api.services.disk import check_space
from impasto.api.services.examples import Examples
from impasto.api.services.slots import Slots
from impasto.api.services.submissions import Submission
from impasto.api.services.upload_cache import Recent
from impasto.core.errors import Busy, ImpastoError, Stopping, Unavailable
from impasto.core.jobs.open import open_store
from impasto.core.jobs.reaper import Keeper
from impasto.core.jobs.record import KINDS, Job, Kind
from impasto.core.jobs.storage import open_storage
from impasto.core.jobs.transitions import Jobs
from impasto.core.logs import request_id
from impasto.core.names import ARCHES
from impasto.core.nets.checkpoints import Zoo
from impasto.core.params import CompareParams, PaintParams
from impasto.core.pictures.codec import Bytes, Format, Picture, encode
from impasto.core.pictures.sandbox import Terms, open_cage
from impasto.core.settings import Settings
from impasto.core.stylize.budget import Budget, Work
from impasto.core.stylize.compare import compare
from impasto.core.stylize.engine import Painter, open_engine
from impasto.core.stylize.stylize import paint

log = logging.getLogger("impasto")

TAKING_BACK = 2.0
"""Seconds, at the end, for submissions under way to notice it, after those that the picture at work may take."""


@dataclass(frozen=True)
class Painted:
    """An encoded painting, and the seconds that each part of the work took."""

    data: bytes
    etag: str
    spans: dict[str, float]


class Service:
    """One for each process. `state` is `loading`, `ready`, or says why nothing can be painted."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.zoo = Zoo(settings.models, settings.styles)
        self.cage = open_cage(Terms(settings.limits, settings.cage_memory, settings.cage_seconds), settings.cage)
        self.budget = Budget(settings.memory, settings.max_seconds, settings.max_painted)
        self.on_engine: Callable[[str, float], None] = lambda model, seconds: None
        self.slots = Slots(settings.slots, settings.queue)
        self.gallery = Slots(1, 1000)  # its pictures are small, come in dozens, and keep no painting waiting
        self.intake = Slots(settings.slots, settings.queue)  # of jobs: large uploads keep no painting waiting
        self.engine = open_engine(settings)
        self.examples = Examples(self.engine, settings.cache_folder)
        self.recent = Recent(settings.recent)
        self.stopping = threading.Event()
        self.state = "loading"
        self.jobs = Jobs(open_store(settings.store))
        self.storage = open_storage(settings.storage)
        self.broker = Broker(settings.broker)
        self.keeper = Keeper(self.jobs, self.storage, settings) if settings.jobs else None
        if self.keeper:
            self.keeper.start()

    @property
    def busy(self) -> bool:
        """Whether pictures are worked on."""
        return any(slots.taken for slots in (self.slots, self.gallery, self.intake))

    def close(self) -> None:
        """Let what is being painted end, forget what waits, and have submissions take back what they have stored."""
        self.stopping.set()
        self.slots.close()
        self.gallery.close()
        self.intake.close()
        self.cage.close()
        until = time.monotonic() + self.settings.cage_seconds + TAKING_BACK
        while self.intake.taken and time.monotonic() < until:
            time.sleep(0.05)
        if self.keeper:
            self.keeper.close()
        self.broker.close()
        self.jobs.store.close()

    def submit(self, submission: Submission, idempotency_key: str | None, owner: str | None = None) -> Job:
        """Check and keep a job, then tell the workers. Raises what the submission and the store raise, and Busy."""
        known = self.jobs.knows_key(idempotency_key, owner)
        job = submission.job(idempotency_key, known=known, room=lambda kind: self._check_queue(kind, owner))
        job = job.model_copy(update={"owner": owner, "request": request_id.get()})
        if self.stopping.is_set():  # its client has been told so
            submission.discard(job.id)
            raise Stopping
        try:
            kept = self.jobs.submit(job)
        except Unavailable:  # perhaps after it was kept: what was sent stays, and the keeper erases orphans
            raise
        except BaseException:
            submission.discard(job.id)
            raise
        if kept.id != job.id:
            submission.discard(job.id)
        self.broker.publish(kept)
        return kept

    def _check_queue(self, kind: Kind, owner: str | None) -> None:
        """Raises Busy where as many jobs of a kind wait as may, half of them a key's own. Submissions of one moment may
        pass it together."""
        most = {"gatys": self.settings.queued_gatys, "train": self.settings.queued_train}[kind]
        waiting = self.jobs.store.count(f"queued {kind}")
        if waiting >= most:
            raise Busy(f"{waiting} {kind} jobs wait already, and that is the most: try again later.", retry_after=60)
        own = self.jobs.store.count(f"queued {kind} of {owner}") if owner else 0
        if own >= max(1, most // 2):
            raise Busy(f"{own} {kind} jobs of the key {owner} wait already, half of all places.", retry_after=60)

    def jobs_state(self) -> str:
        """`ready` where a job would be taken on and done, or why not."""
        if not self.settings.jobs:
            return "no jobs are taken on (IMPASTO_JOBS is false)"
        try:
            check_space(self.settings)
            missing = [kind for kind in KINDS if not self.jobs.attended(kind)]
        except ImpastoError as error:
            return error.message
        return f"no worker is alive for {' and '.join(missing)}" if missing else "ready"

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
            self.cage.warm()
            self.state = "ready"
        except Exception as error:  # a cache that cannot be written, a device that is not there
            self.state = str(error)
            log.exception("no model could be loaded")

    def decode(self, data: bytes) -> Picture:
        """A picture that was sent. Raises what `Cage.decode` and `Budget.room` do."""
        if self.stopping.is_set():
            raise Stopping
        with self.budget.room() as take:
            return self.cage.decode(data, lambda height, width: take(Work(height, width)))

    def stylize(self, data: bytes, params: PaintParams) -> Painted:
        """Bytes of a photograph -> bytes of its painting. Raises what the zoo, `decode` and the engine raise."""
        path = self.zoo.find(params.arch, params.dataset, params.style).path  # first: it costs least
        arch = params.arch if params.strength else None  # the photograph itself needs no network
        return self._painted(
            data,
            lambda height, width: Work(height, width, arch, params.paint_size, params.max_side),
            lambda picture: paint(self._painter(path), picture, params, self.budget.painted),
            params.format,
        )

    def compare(self, data: bytes, params: CompareParams) -> Painted:
        """Bytes of a photograph -> bytes of a sheet: what each model asked for paints of it. Raises as `stylize`."""
        models = self.zoo.select(params.arch, params.dataset, params.style)
        costliest = max((arch for arch, _, _ in models), key=lambda arch: ARCHES[arch].memory)
        return self._painted(
            data,
            lambda height, width: Work(height, width, costliest, params.seen_side, params.painted_side, len(models)),
            lambda picture: compare(models, self._painter, picture, params),
            params.format,
        )

    def _painter(self, path: Path) -> Painter:
        """The network of a checkpoint, and what it takes told to who wants to know."""
        painter, names = self.engine.painter(path), path.with_suffix("").parts[-3:]

        def timed(rgb: Bytes) -> Bytes:
            begun = time.perf_counter()
            painting = painter(rgb)
            seconds = time.perf_counter() - begun
            self.budget.learn(names[0], rgb.shape[0] * rgb.shape[1], seconds)
            self.on_engine("/".join(names), seconds)
            return painting

        return timed

    def _painted(
        self,
        data: bytes,
        work: Callable[[int, int], Work],
        paint: Callable[[Picture], Picture],
        format: Format,
    ) -> Painted:
        """`work` says by height and width what `paint` will cost."""
        begun = time.perf_counter()
        with self.budget.room() as take:
            picture = self.cage.decode(data, lambda height, width: take(work(height, width)))
            decoded = time.perf_counter()
            painting = paint(picture)
            painted = time.perf_counter()
            encoded = encode(painting, format)
        self.state = "ready"
        spans = {"decode": decoded - begun, "engine": painted - decoded, "encode": time.perf_counter() - painted}
        return Painted(encoded, sha256(encoded).hexdigest()[:32], spans)
