"""A job run in its child process: to its end, canceled, stopped, killed, in trouble."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from impasto.core.errors import NotFound
from impasto.core.jobs.open import open_store
from impasto.core.jobs.record import Job
from impasto.core.jobs.storage import Storage, open_storage
from impasto.core.jobs.transitions import Jobs
from impasto.core.nets.checkpoints import Zoo, read_card
from impasto.core.pictures.codec import decode
from impasto.core.settings import ROOT, Settings
from impasto.worker.jobs.attempt import run_job
from tests.helpers.processes import children
from tests.helpers.work import gatys_job, train_job, until, with_our_styles

LONG = 10_000
"""Evaluations that nobody waits for."""


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
            target=run_job, args=(job.id, self.jobs, self.storage, self.settings, self.stopping.is_set)
        )
        thread.start()
        self.threads.append(thread)

    def wait(self) -> None:
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive()

    def run(self, job: Job) -> Job:
        run_job(self.jobs.submit(job).id, self.jobs, self.storage, self.settings)
        return self.jobs.get(job.id)


@pytest.fixture
def place(settings: Settings) -> Iterator[Place]:
    place = Place(settings)
    yield place
    place.stopping.set()
    place.wait()
    place.jobs.store.close()
    assert children() == []
    assert not list(settings.work.glob("*-*"))


def steps_done(place: Place, job: Job, steps: int) -> None:
    for _ in range(2400):
        if place.jobs.get(job.id).progress.step >= steps:
            return
        time.sleep(0.05)
    raise AssertionError(place.jobs.get(job.id))


def test_a_painting(place, photo):
    done = place.run(gatys_job(place.storage, photo))
    assert done.status == "succeeded", done.error
    assert (done.progress.step, done.progress.total) == (3, 3)
    painting = decode(place.storage.get(done.files["result"]))
    assert painting.rgb.shape == photo.shape
    assert np.abs(painting.rgb.astype(int) - photo).mean() > 1
    assert decode(place.storage.get(done.files["preview"])).rgb.shape == photo.shape
    assert place.storage.get(done.files["losses"]).decode().count("\n") == 4
    assert place.storage.get(done.files["plot"]).startswith(b"\x89PNG")


def test_a_training_is_in_the_zoo_at_once(place, photo, tmp_path):
    picture = np.kron(photo, np.ones((2, 2, 1), np.uint8))
    done = place.run(train_job(place.storage, picture, tmp_path))
    assert done.status == "succeeded", done.error
    entry = Zoo(place.settings.styles).find("aonet", "mine", "plain")
    assert entry.card.params.steps == 3
    assert place.storage.get(done.files["result"]) == entry.path.read_bytes()
    assert read_card(entry.path) == entry.card
    with pytest.raises(NotFound):
        place.storage.get(f"jobs/{done.id}/1/state.pt")


def test_canceled_keeps_the_best_so_far(place, photo):
    job = place.jobs.submit(gatys_job(place.storage, photo, num_iterations=LONG))
    place.begin(job)
    steps_done(place, job, 2)
    asked = time.monotonic()
    place.jobs.cancel(job.id)
    over = until(place.jobs, job.id, "canceled")
    assert time.monotonic() - asked < 30
    assert decode(place.storage.get(over.files["result"])).rgb.shape == photo.shape


def test_told_to_stop_it_goes_on_later_from_there(place, photo):
    job = place.jobs.submit(gatys_job(place.storage, photo, num_iterations=LONG))
    place.begin(job)
    steps_done(place, job, 3)
    place.stopping.set()
    place.wait()
    stopped = place.jobs.get(job.id)
    assert (stopped.status, stopped.lost) == ("queued", 0)
    assert "state" in stopped.files
    place.stopping.clear()
    place.begin(job)
    until(place.jobs, job.id, "running")
    steps_done(place, job, stopped.progress.step + 1)
    assert place.jobs.cancel(job.id).attempt == 2
    until(place.jobs, job.id, "canceled")
    rows = place.storage.get(place.jobs.get(job.id).files["losses"]).decode().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, len(rows) + 1))  # none lost, none twice


def test_a_killed_child_goes_on_from_its_last_checkpoint(place, photo, tmp_path):
    place.settings = place.settings.model_copy(update={"save_every": 0.1})
    job = place.jobs.submit(gatys_job(place.storage, photo, num_iterations=LONG))
    place.begin(job)
    while "state" not in (saved := place.jobs.get(job.id)).files:
        time.sleep(0.05)
    for child in children():
        child.kill()
    lost = until(place.jobs, job.id, "queued")
    assert lost.lost == 1
    place.wait()
    place.begin(job)
    until(place.jobs, job.id, "running")
    while (resumed := place.jobs.get(job.id)).progress.step <= lost.progress.step:
        time.sleep(0.05)
    assert saved.progress.step >= 1
    place.jobs.cancel(job.id)
    over = until(place.jobs, job.id, "canceled")
    assert resumed.attempt == 2
    rows = place.storage.get(over.files["losses"]).decode().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, len(rows) + 1))


def test_a_job_that_kills_its_worker_each_time_fails_after_three(place, photo):
    job = place.jobs.submit(gatys_job(place.storage, photo, num_iterations=LONG))
    for attempt in (1, 2, 3):
        place.begin(job)
        assert until(place.jobs, job.id, "running").attempt == attempt
        while not children():
            time.sleep(0.02)
        for child in children():
            child.kill()
        place.wait()
    failed = place.jobs.get(job.id)
    assert (failed.status, failed.error.code, failed.attempt) == ("failed", "worker_lost", 3)


def test_what_the_child_refuses_is_the_jobs_failure(place, photo):
    job = gatys_job(place.storage, photo)
    failed = place.run(job.model_copy(update={"params": job.params | {"style": "no_such"}}))
    assert (failed.status, failed.error.code) == ("failed", "not_found")
    assert "wave" in failed.error.message


def test_a_job_whose_pictures_are_gone_fails(place, photo):
    job = gatys_job(place.storage, photo)
    place.storage.erase(f"jobs/{job.id}")
    failed = place.run(job)
    assert (failed.status, failed.error.code) == ("failed", "not_found")


def test_a_deleted_job_ends_and_leaves_nothing(place, photo):
    job = place.jobs.submit(gatys_job(place.storage, photo, num_iterations=LONG))
    place.begin(job)
    steps_done(place, job, 1)
    place.jobs.store.remove(job.id)
    place.storage.erase(f"jobs/{job.id}")
    place.wait()
    assert place.storage.groups("jobs") == {}


def test_a_child_ends_with_whoever_started_it(place, photo, tmp_path):
    """As kill -9 of a whole worker does not kill its children."""
    job = place.jobs.submit(gatys_job(place.storage, photo, num_iterations=LONG))
    code = (
        "import sys; from impasto.core.settings import Settings; from impasto.core.jobs.transitions import Jobs;"
        "from impasto.core.jobs.open import open_store; from impasto.core.jobs.storage import open_storage;"
        "from impasto.worker.jobs.attempt import run_job;"
        "s = Settings.model_validate_json(sys.argv[1]);"
        "run_job(sys.argv[2], Jobs(open_store(s.store)), open_storage(s.storage), s)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, place.settings.model_dump_json(), job.id], cwd=ROOT)
    while not (orphans := children()):
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert psutil.wait_procs(orphans, timeout=60)[1] == []
    assert place.jobs.get(job.id).status == "running"  # until the reaper sees the silence
    for folder in place.settings.work.glob("*-*"):  # which a dead worker leaves, and the next start clears
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        Path(folder).rmdir()
