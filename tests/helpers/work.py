"""Small jobs, submitted as the API does, for tests of the workers."""

import threading
import time
import zipfile
from pathlib import Path

import numpy as np

from impasto.api.admin_token import open_token
from impasto.core.jobs.open import open_store
from impasto.core.jobs.record import Job
from impasto.core.jobs.storage import Storage, open_storage
from impasto.core.jobs.transitions import Jobs
from impasto.core.params import GatysParams, TrainJobParams
from impasto.core.pictures.codec import Picture, encode
from impasto.core.recipes import recipe
from impasto.core.settings import ROOT, Settings
from impasto.worker.jobs.attempt import run_next


def with_our_styles(settings: Settings) -> Settings:
    """With the models in the clone, whose styles are kept by name."""
    return settings.model_copy(update={"models": ROOT / "models"})


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def admin(settings: Settings) -> dict[str, str]:
    """The header of the admin of a service without keys."""
    return {"Authorization": f"Bearer {open_token(settings.cache_folder)}"}


class Place:
    """A store and a storage, and a worker in a thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = with_our_styles(settings)
        self.jobs: Jobs = Jobs(open_store(settings.store))
        self.storage: Storage = open_storage(settings.storage)
        self.stopping = threading.Event()
        self.threads: list[threading.Thread] = []

    def begin(self, job: Job) -> None:
        thread = threading.Thread(
            target=run_next, args=(job.kind, self.jobs, self.storage, self.settings, self.stopping.is_set)
        )
        thread.start()
        self.threads.append(thread)

    def wait(self) -> None:
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive()

    def run(self, job: Job) -> Job:
        run_next(self.jobs.submit(job).kind, self.jobs, self.storage, self.settings)
        return self.jobs.get(job.id)


def gatys_job(storage: Storage, photo: np.ndarray, **changes) -> Job:
    """A painting of `photo` in 3 evaluations."""
    job = Job(kind="gatys", params=GatysParams(**{"style": "wave", "num_iterations": 3, **changes}).model_dump())
    key = f"jobs/{job.id}/inputs/image-0.png"
    storage.put(key, encode(Picture(photo), "png"))
    return job.model_copy(update={"inputs": {"image": [key]}})


def train_job(storage: Storage, photo: np.ndarray, folder: Path, **changes) -> Job:
    """A training on two photographs, named `plain`."""
    tiny = {"size": 64, "batch": 1, "steps": 3, "style_size": 64, **changes}
    params = TrainJobParams(**recipe("aonet", "mine", "plain", "ours", **tiny).model_dump())
    job = Job(kind="train", params=params.model_dump(mode="json"), publishes="aonet/mine/plain")
    keys = [f"jobs/{job.id}/inputs/{name}" for name in ("style_image-0.png", "content_images.zip")]
    storage.put(keys[0], encode(Picture(photo), "png"))
    with zipfile.ZipFile(folder / "photographs.zip", "w") as archive:
        for number in range(2):
            archive.writestr(f"{number}.jpg", encode(Picture(np.roll(photo, 9 * number, 0)), "jpeg"))
    storage.put(keys[1], folder / "photographs.zip")
    return job.model_copy(update={"inputs": {"style_image": [keys[0]], "content_images": [keys[1]]}})


def until(jobs: Jobs, id: str, *statuses: str, seconds: float = 120) -> Job:
    """The job as soon as it has one of these states."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = jobs.get(id)
        if job.status in statuses:
            return job
        time.sleep(0.05)
    raise AssertionError(f"still {jobs.get(id)}")
