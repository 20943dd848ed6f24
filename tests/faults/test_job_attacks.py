"""Attacks on jobs that once worked: jobs that cost too much, disks that are filled, and queues that are taken."""

import io
import time
import tracemalloc
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from impasto.api.main import create_app
from impasto.api.services.job_form import JobForm
from impasto.core.jobs import transitions
from impasto.core.jobs.open import open_store
from impasto.core.jobs.reaper import clean
from impasto.core.jobs.record import Job
from impasto.core.jobs.storage import open_storage
from impasto.core.jobs.transitions import WAITED, Jobs
from impasto.core.pictures.codec import Picture, decode, encode
from impasto.core.settings import Settings
from impasto.worker.jobs import attempt
from impasto.worker.jobs.attempt import run_next
from tests.helpers.processes import wait_for
from tests.helpers.work import Clock, gatys_job, until, with_our_styles

GATYS = {"kind": "gatys", "style": "wave"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_our_styles(settings).model_copy(update={"max_job_memory": 16_000_000_000})


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def png_of(pixels: np.ndarray) -> bytes:
    return encode(Picture(pixels), "png")


def from_address(client: TestClient, address: str) -> TestClient:
    client._transport.client = (address, 1)  # type: ignore[attr-defined]
    return client


def stored_files(client: TestClient) -> list[bytes]:
    folder = client.app.state.submissions.storage.folder
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("fields", "files"),
    [
        (
            {"kind": "train", "size": 1024, "batch": 256, "steps": 1_000_000, "style_size": 2048},
            {"style_image": png_of(noise(16, 320)), "content_images": png_of(noise(32, 32))},
        ),
        (
            {"kind": "train", "arch": "vgg16", "steps": 1_000_000},
            {"style_image": png_of(noise(32, 32)), "content_images": png_of(noise(32, 32))},
        ),
        (
            {"kind": "gatys", "size": 2048, "num_iterations": 10_000, "style_scale": 3},
            {"image": png_of(np.zeros((2048, 2048, 3), np.uint8)), "style_image": png_of(noise(16, 320))},
        ),
        (
            {"kind": "gatys", "style_scale": 3},
            {"image": png_of(noise(32, 32)), "style_image": png_of(noise(16, 320))},
        ),
    ],
    ids=["training", "long training", "painting", "style"],
)
def test_a_job_that_costs_too_much_is_refused_with_one_that_would_do(client, fields, files):
    """21 to 65 GB, and days of work, were one request."""
    if fields["kind"] == "train":
        fields = {"name": "mine", **fields}
    refused = client.post("/jobs", data=fields, files=files)
    assert refused.status_code == 413, refused.text
    answer = refused.json()
    assert answer["actual"] > answer["limit"]
    assert stored_files(client) == []
    nearest = {name: value for name, value in answer.items() if name in fields and value != fields[name]}
    assert nearest and all(f"{name}={value:g}" in answer["detail"] for name, value in nearest.items())
    taken = client.post("/jobs", data={**fields, **nearest}, files=files)
    assert taken.status_code == 202, taken.text


@pytest.mark.parametrize("over", ["canceled", "deleted", "failed"])
def test_a_job_that_is_over_leaves_no_inputs(client, png, over):
    """132 MB of nine cancelled jobs stayed for a day."""
    jobs = client.app.state.submissions.jobs
    id = client.post("/jobs", data=GATYS, files={"image": png}).json()["id"]
    assert len(stored_files(client)) == 1
    if over == "canceled":
        client.post(f"/jobs/{id}/cancel")
    elif over == "deleted":
        client.delete(f"/jobs/{id}")
    else:
        mine = jobs.claim(id)
        client.app.state.submissions.storage.put(f"jobs/{id}/1/state.pt", b"a large one")
        jobs.finish(mine, "failed")
    seen = {"Last-Event-ID": str(jobs.get(id).version)} if over != "deleted" else None
    wait_for(lambda: stored_files(client) == [] and jobs.store.stored("testclient") == 0, seconds=30)
    if seen:  # an EventSource that has seen the end is told not to come again
        assert client.get(f"/jobs/{id}/events", headers=seen).status_code == 204


def test_a_small_file_of_many_pixels_is_stored_as_the_job_sees_it(client):
    """An AVIF of 1 KB with film grain became a PNG of 15 MB, and a style of strips another."""
    file = io.BytesIO()
    Image.fromarray(noise(2000, 3000)).save(file, "jpeg", quality=1)
    files = [("image", file.getvalue()), *[("style_image", file.getvalue())] * 2]
    answer = client.post("/jobs", data={"kind": "gatys", "size": 128}, files=files)
    assert answer.status_code == 202, answer.text
    sizes = sorted(Image.open(io.BytesIO(data)).size for data in stored_files(client))
    assert sizes == [(128, 85), (768, 512), (768, 512)]


def test_a_client_stores_a_share_of_the_disk(settings):
    settings = settings.model_copy(update={"max_stored": 1_500_000, "queued_gatys": 100})
    file = png_of(noise(600, 600))  # 1 MB, and stored so: its alpha and colours are asked for
    fields = {**GATYS, "preserve_color": True}
    with TestClient(create_app(settings)) as client:
        first = client.post("/jobs", data=fields, files={"image": file})
        assert first.status_code == 202, first.text
        full = client.post("/jobs", data=fields, files={"image": file})
        assert (full.status_code, full.json()["error"]) == (507, "no_space"), full.text
        assert "Delete jobs" in full.json()["detail"] and full.json()["limit"] < 600_000
        assert len(stored_files(client)) == 1
        assert from_address(client, "10.0.0.9").post("/jobs", data=fields, files={"image": file}).status_code == 202
        from_address(client, "testclient").delete(f"/jobs/{first.json()['id']}")
        assert client.post("/jobs", data=fields, files={"image": file}).status_code == 202


def test_a_stranger_waits_for_one_job_of_each_other_client(store_url):
    """One client with fifty jobs made a stranger wait behind all of them."""
    jobs = Jobs(open_store(store_url))

    def submit(client: str) -> Job:
        return jobs.submit(Job(kind="gatys", params={}, client=client))

    many = [submit("many") for _ in range(50)]
    assert jobs.claim_next("gatys").id == many[0].id
    alone = submit("alone")
    order = []
    for _ in range(6):
        mine = jobs.claim_next("gatys")
        order.append(mine.id)
        if mine.client == "alone":
            jobs.finish(mine, "succeeded")
            alone = submit("alone")  # whoever comes again and again does not hold up the others either
    assert order[0] == many[1].id
    assert [jobs.get(id).client for id in order] == ["many", "alone"] * 3
    assert jobs.claim_next("gatys").client == "many"
    assert jobs.claim_next("gatys").id == alone.id
    jobs.store.close()


def test_a_strangers_single_job_gets_in(settings, png):
    """Without keys one client could take all places of the queue."""
    settings = settings.model_copy(update={"queued_gatys": 4})
    with TestClient(create_app(settings)) as client:

        def submit(address: str) -> int:
            return from_address(client, address).post("/jobs", data=GATYS, files={"image": png}).status_code

        assert [submit("10.0.0.1") for _ in range(3)] == [202, 202, 503]
        assert [submit("10.0.0.2") for _ in range(3)] == [202, 202, 503]
        assert submit("10.0.0.3") == 202  # the four places are taken
        assert submit("10.0.0.3") == 503
        assert submit("2001:db8::1") == 202
        assert submit("2001:db8::2") == 503  # of the same household


def test_a_message_wakes_a_worker_for_whose_turn_it_is(settings, monkeypatch):
    """Celery did jobs in the order of their messages."""
    from impasto.worker import tasks

    jobs = Jobs(open_store(settings.store))
    for name, value in {"STORE": settings.store, "STORAGE": settings.storage, "WORK": str(settings.work)}.items():
        monkeypatch.setenv(f"IMPASTO_{name}", value)
    tasks._services.cache_clear()
    mine = [jobs.submit(Job(kind="gatys", params={}, client="many")) for _ in range(3)]
    alone = jobs.submit(Job(kind="gatys", params={}, client="alone"))
    for job in mine[:2]:
        tasks.run(job.id)
    tasks._services.cache_clear()
    assert [jobs.get(job.id).status for job in (*mine, alone)] == ["failed", "queued", "queued", "failed"]
    jobs.store.close()


@pytest.mark.parametrize("changes", [{}, {"preserve_color": True}, {"init": "style"}], ids=str)
def test_a_painting_of_what_was_stored_is_that_of_what_was_sent(settings, changes):
    """The pixels are the same, of pictures that are stored no larger than they are looked at."""
    sent = {"image": png_of(noise(90, 121)), "style_image": png_of(noise(300, 261))}
    fields = {"kind": "gatys", "size": 48, "num_iterations": 2, "style_scale": 0.25, **changes}
    with TestClient(create_app(settings)) as client:
        submissions = client.app.state.submissions
        jobs, storage = submissions.jobs, submissions.storage
        small = jobs.get(client.post("/jobs", data=fields, files=sent).json()["id"])
        whole = Job(kind="gatys", params=small.params, inputs={name: [f"whole/{name}.png"] for name in sent})
        for name, data in sent.items():
            storage.put(f"whole/{name}.png", data)
        jobs.submit(whole)
        paintings = []
        for job in (small, whole):
            run_next("gatys", jobs, storage, settings)
            paintings.append(decode(client.get(f"/jobs/{job.id}/result").content).rgb)
    assert (small.sizes["inputs"] < sum(map(len, sent.values()))) or changes
    assert paintings[0].shape == (90, 121, 3)
    np.testing.assert_array_equal(*paintings)


@pytest.mark.parametrize(("limit", "status"), [({"queued_gatys": 2}, 503), ({"max_stored": 1_500_000}, 507)], ids=str)
def test_a_key_whose_job_is_deleted_meanwhile_skips_no_limit(settings, monkeypatch, limit, status):
    """30 jobs of 30 were queued beyond the share: a known key skipped the limits, and its job was deleted meanwhile."""
    settings = settings.model_copy(update={"queued_gatys": 100, **limit})
    fields, files = {**GATYS, "preserve_color": True}, {"image": png_of(noise(600, 600))}  # 1 MB, and stored so
    key = {"Idempotency-Key": "mine"}
    with TestClient(create_app(settings)) as client:
        first = client.post("/jobs", data=fields, files=files, headers=key).json()["id"]
        client.post(f"/jobs/{first}/cancel")
        wait_for(lambda: stored_files(client) == [], seconds=30)
        assert client.post("/jobs", data=fields, files=files).status_code == 202  # all that this client may have
        assert client.post("/jobs", data=fields, files=files, headers=key).json()["id"] == first
        decoded = JobForm.job

        def delete_meanwhile(*args: object) -> Job:
            job = decoded(*args)
            client.app.state.submissions.delete(first)
            return job

        monkeypatch.setattr(JobForm, "job", delete_meanwhile)
        refused = client.post("/jobs", data=fields, files=files, headers=key)
        assert refused.status_code == status, refused.text
        assert len(stored_files(client)) == 1


def test_a_long_job_gives_its_worker_to_another_client(runner, photo, monkeypatch):
    """One painting of 10,000 iterations held the only worker for days."""
    for module, name, seconds in ((attempt, "TURN", 0), (attempt, "LOOK_EVERY", 0), (transitions, "WAITED", -1)):
        monkeypatch.setattr(module, name, seconds)
    runner.settings = runner.settings.model_copy(update={"save_every": 0.1})

    def submit(client: str, iterations: int) -> Job:
        job = gatys_job(runner.storage, photo, num_iterations=iterations)
        return runner.jobs.submit(job.model_copy(update={"client": client}))

    long, steps = submit("many", 10_000), 0
    for number in (1, 2, 3):
        runner.begin(long)
        until(runner.jobs, long.id, "running")
        wait_for(lambda number=number: f"/{number}/" in runner.jobs.get(long.id).files.get("state", ""), seconds=120)
        assert runner.storage.groups(f"jobs/{long.id}").keys() == {"inputs", *map(str, {max(1, number - 1), number})}
        short = submit("alone", 2)
        given = until(runner.jobs, long.id, "queued")
        assert (given.attempt, given.lost) == (number, 0)
        assert given.progress.step > steps
        steps = given.progress.step
        runner.wait()
        monkeypatch.setattr(attempt, "TURN", 600)  # it does not give way in its turn
        runner.begin(short)
        until(runner.jobs, short.id, "succeeded")
        monkeypatch.setattr(attempt, "TURN", 0)
    runner.begin(long)
    until(runner.jobs, long.id, "running")
    wait_for(lambda: runner.jobs.get(long.id).progress.step > steps, seconds=120)
    runner.jobs.cancel(long.id)
    over = until(runner.jobs, long.id, "canceled")
    rows = runner.storage.get(over.files["losses"]).decode().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, len(rows) + 1))  # none lost, none twice


def test_a_job_gives_way_to_another_client_of_its_kind_that_has_waited(store_url):
    clock = Clock(time.time())
    jobs = Jobs(open_store(store_url), clock)

    def submit(kind: str, client: str) -> Job:
        return jobs.submit(Job(kind=kind, params={}, client=client))

    mine = jobs.claim(submit("gatys", "many").id)
    submit("gatys", "many")
    submit("train", "alone")
    clock.now += WAITED + 1
    assert not jobs.others_wait(mine)
    clock.now -= WAITED + 1
    alone = submit("gatys", "alone")
    assert not jobs.others_wait(mine)  # an idle worker claims it first
    clock.now += WAITED + 1
    assert jobs.others_wait(mine)
    assert jobs.release(mine, turn_over=True).turn > alone.turn
    stopped = jobs.claim(alone.id)
    assert jobs.release(stopped).turn == alone.turn
    jobs.store.close()


def test_the_reaper_holds_a_page_of_records(store_url, settings):
    """100,000 finished records took 514 MB each time."""
    jobs, storage = Jobs(open_store(store_url)), open_storage(settings.storage)
    past = datetime.now(UTC) - timedelta(hours=settings.keep_results + 1)

    def add(count: int, finished: datetime) -> None:
        for _ in range(count):
            jobs.store.add(Job(kind="gatys", params={}, status="canceled", cleared=True, finished=finished))

    def peak() -> int:
        tracemalloc.start()
        try:
            clean(jobs, storage, settings)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    add(100, datetime.now(UTC))
    peak()
    page = peak()
    add(900, datetime.now(UTC))
    assert peak() < 4 * page
    add(150, past)
    clean(jobs, storage, settings)
    assert jobs.store.count("canceled") == 1000
    jobs.store.close()
