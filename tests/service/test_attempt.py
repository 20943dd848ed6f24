"""A job run in its child process: to its end, canceled, stopped, killed, in trouble."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from impasto.core.errors import NotFound
from impasto.core.jobs.reaper import clear
from impasto.core.jobs.record import Job
from impasto.core.nets.checkpoints import Zoo, read_card
from impasto.core.pictures.codec import decode
from impasto.core.settings import ROOT
from impasto.worker.jobs.child import NICE
from tests.helpers.processes import children
from tests.helpers.work import Place, gatys_job, train_job, until

LONG = 10_000
"""Evaluations that nobody waits for."""


def steps_done(runner: Place, job: Job, steps: int) -> None:
    for _ in range(2400):
        if runner.jobs.get(job.id).progress.step >= steps:
            return
        time.sleep(0.05)
    raise AssertionError(runner.jobs.get(job.id))


def test_a_painting(runner, photo):
    done = runner.run(gatys_job(runner.storage, photo))
    assert done.status == "succeeded", done.error
    assert (done.progress.step, done.progress.total) == (3, 3)
    painting = decode(runner.storage.get(done.files["result"]))
    assert painting.rgb.shape == photo.shape
    assert np.abs(painting.rgb.astype(int) - photo).mean() > 1
    assert decode(runner.storage.get(done.files["preview"])).rgb.shape == photo.shape
    assert runner.storage.get(done.files["losses"]).decode().count("\n") == 4
    assert runner.storage.get(done.files["plot"]).startswith(b"\x89PNG")


def test_a_training_is_in_the_zoo_at_once(runner, photo, tmp_path):
    picture = np.kron(photo, np.ones((2, 2, 1), np.uint8))
    done = runner.run(train_job(runner.storage, picture, tmp_path))
    assert done.status == "succeeded", done.error
    entry = Zoo(runner.settings.styles).find("aonet", "mine", "plain")
    assert entry.card.params.steps == 3
    assert runner.storage.get(done.files["result"]) == entry.path.read_bytes()
    assert read_card(entry.path) == entry.card
    clear(runner.jobs, runner.storage)
    with pytest.raises(NotFound):
        runner.storage.get(f"jobs/{done.id}/1/state.pt")


def test_canceled_keeps_the_best_so_far(runner, photo):
    job = runner.jobs.submit(gatys_job(runner.storage, photo, num_iterations=LONG))
    runner.begin(job)
    steps_done(runner, job, 2)
    asked = time.monotonic()
    runner.jobs.cancel(job.id)
    over = until(runner.jobs, job.id, "canceled")
    assert time.monotonic() - asked < 30
    assert decode(runner.storage.get(over.files["result"])).rgb.shape == photo.shape


def test_told_to_stop_it_goes_on_later_from_there(runner, photo):
    job = runner.jobs.submit(gatys_job(runner.storage, photo, num_iterations=LONG))
    runner.begin(job)
    steps_done(runner, job, 3)
    runner.stopping.set()
    runner.wait()
    stopped = runner.jobs.get(job.id)
    assert (stopped.status, stopped.lost) == ("queued", 0)
    assert "state" in stopped.files
    runner.stopping.clear()
    runner.begin(job)
    until(runner.jobs, job.id, "running")
    steps_done(runner, job, stopped.progress.step + 1)
    assert runner.jobs.cancel(job.id).attempt == 2
    until(runner.jobs, job.id, "canceled")
    rows = runner.storage.get(runner.jobs.get(job.id).files["losses"]).decode().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, len(rows) + 1))  # none lost, none twice


def test_a_killed_child_goes_on_from_its_last_checkpoint(runner, photo, tmp_path):
    runner.settings = runner.settings.model_copy(update={"save_every": 0.1})
    job = runner.jobs.submit(gatys_job(runner.storage, photo, num_iterations=LONG))
    runner.begin(job)
    while "state" not in (saved := runner.jobs.get(job.id)).files:
        time.sleep(0.05)
    for child in children():
        assert child.nice() == min(19, os.nice(0) + NICE)  # whoever waits for a painting at once comes first
        child.kill()
    lost = until(runner.jobs, job.id, "queued")
    assert lost.lost == 1
    runner.wait()
    runner.begin(job)
    until(runner.jobs, job.id, "running")
    while (resumed := runner.jobs.get(job.id)).progress.step <= lost.progress.step:
        time.sleep(0.05)
    assert saved.progress.step >= 1
    runner.jobs.cancel(job.id)
    over = until(runner.jobs, job.id, "canceled")
    assert resumed.attempt == 2
    rows = runner.storage.get(over.files["losses"]).decode().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, len(rows) + 1))


def test_a_job_that_kills_its_worker_each_time_fails_after_three(runner, photo):
    job = runner.jobs.submit(gatys_job(runner.storage, photo, num_iterations=LONG))
    for attempt in (1, 2, 3):
        runner.begin(job)
        assert until(runner.jobs, job.id, "running").attempt == attempt
        while not children():
            time.sleep(0.02)
        for child in children():
            child.kill()
        runner.wait()
    failed = runner.jobs.get(job.id)
    assert (failed.status, failed.error.code, failed.attempt) == ("failed", "worker_lost", 3)


def test_what_the_child_refuses_is_the_jobs_failure(runner, photo):
    job = gatys_job(runner.storage, photo)
    failed = runner.run(job.model_copy(update={"params": job.params | {"style": "no_such"}}))
    assert (failed.status, failed.error.code) == ("failed", "not_found")
    assert "wave" in failed.error.message


def test_a_job_whose_pictures_are_gone_fails(runner, photo):
    job = gatys_job(runner.storage, photo)
    runner.storage.erase(f"jobs/{job.id}")
    failed = runner.run(job)
    assert (failed.status, failed.error.code) == ("failed", "not_found")


def test_a_deleted_job_ends_and_leaves_nothing(runner, photo):
    job = runner.jobs.submit(gatys_job(runner.storage, photo, num_iterations=LONG))
    runner.begin(job)
    steps_done(runner, job, 1)
    runner.jobs.store.remove(job.id)
    runner.storage.erase(f"jobs/{job.id}")
    runner.wait()
    assert runner.storage.groups("jobs") == {}


def test_a_child_ends_with_whoever_started_it(runner, photo, tmp_path):
    """As kill -9 of a whole worker does not kill its children."""
    job = runner.jobs.submit(gatys_job(runner.storage, photo, num_iterations=LONG))
    code = (
        "import sys; from impasto.core.settings import Settings; from impasto.core.jobs.transitions import Jobs;"
        "from impasto.core.jobs.open import open_store; from impasto.core.jobs.storage import open_storage;"
        "from impasto.worker.jobs.attempt import run_next;"
        "s = Settings.model_validate_json(sys.argv[1]);"
        "run_next('gatys', Jobs(open_store(s.store)), open_storage(s.storage), s)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, runner.settings.model_dump_json(), job.id], cwd=ROOT)
    while not (orphans := children()):
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert psutil.wait_procs(orphans, timeout=60)[1] == []
    assert runner.jobs.get(job.id).status == "running"  # until the reaper sees the silence
    for folder in runner.settings.work.glob("*-*"):  # which a dead worker leaves, and the next start clears
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        Path(folder).rmdir()
