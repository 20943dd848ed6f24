"""/jobs over HTTP, with a real worker behind it where work is done."""

import asyncio
import io
import json
import os
import threading
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from impasto.api.main import create_app
from impasto.api.routers.events import events
from impasto.api.routers.jobs import view
from impasto.core.errors import Unavailable
from impasto.core.jobs.reaper import clean
from impasto.core.jobs.record import Job, News, Progress
from impasto.core.pictures.codec import Picture, encode
from impasto.core.settings import Settings
from impasto.worker.embedded import supervise
from tests.helpers.servers import free_port
from tests.helpers.work import admin, until, with_our_styles


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_our_styles(settings)


@pytest.fixture
def working(settings: Settings) -> Iterator[None]:
    """The supervisor, in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=supervise, args=(settings, stop))
    thread.start()
    yield
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def test_a_service_that_takes_on_no_jobs(settings, png):
    with TestClient(create_app(settings.model_copy(update={"jobs": False}))) as client:
        for answer in (
            client.post("/jobs", data={"kind": "gatys"}, files={"image": png}),
            client.get("/jobs/x/result"),
        ):
            assert answer.status_code == 404
            assert "IMPASTO_JOBS" in answer.json()["detail"]
        assert client.get("/styles").status_code == 200
        assert not any(path.startswith("/jobs") for path in client.get("/openapi.json").json()["paths"])


def jobs_of(client: TestClient):
    return client.app.state.submissions.jobs


def submit(client: TestClient, png: bytes, headers: dict | None = None, **fields) -> dict:
    fields = {"kind": "gatys", "style": "wave", "num_iterations": "2", **fields}
    answer = client.post("/jobs", data=fields, files={"image": ("cat.png", png)}, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_a_painting_from_form_to_result(client, working, png, photo):
    sent = client.post("/jobs", data={"kind": "gatys", "style": "wave", "num_iterations": 2}, files={"image": png})
    assert sent.status_code == 202
    assert sent.headers["location"] == f"/jobs/{sent.json()['id']}"
    place = sent.headers["location"]
    for kept in ("result", "losses.png"):
        answer = client.get(f"{place}/{kept}")
        assert (answer.status_code, answer.json()["detail"][-5:]) == (409, " yet."), answer.text
    done = until(jobs_of(client), sent.json()["id"], "succeeded", "failed")
    shown = client.get(place).json()
    assert (shown["status"], shown["progress"]["step"]) == ("succeeded", 2), done.error
    assert set(shown["links"]) == {"self", "events", "preview", "losses", "plot", "result"}
    result = client.get(shown["links"]["result"])
    assert result.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(result.content)) as image:
        assert image.size == (photo.shape[1], photo.shape[0])
    assert client.get(shown["links"]["preview"]).headers["content-type"] == "image/png"
    assert [row["step"] for row in client.get(shown["links"]["losses"]).json()] == [1, 2]
    assert client.get(shown["links"]["plot"]).content.startswith(b"\x89PNG")
    assert client.delete(place).status_code == 204
    assert client.get(place).status_code == 404
    assert client.get(f"{place}/result").status_code == 404
    assert client.app.state.submissions.storage.groups("jobs") == {}


def test_a_training_from_photographs_to_stylize(client, settings, working, png, photo):
    picture = encode(Picture(np.kron(photo, np.ones((2, 2, 1), np.uint8))), "jpeg")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("folder/one.jpg", picture)
        file.writestr("folder/notes.txt", "not a picture")
    fields = {"kind": "train", "name": "mine", "size": 64, "batch": 1, "steps": 2, "style_size": 64}
    files = [
        ("style_image", ("style.png", png)),
        ("content_images", ("two.jpg", picture)),
        ("content_images", ("more.zip", archive.getvalue())),
    ]
    key = {"Idempotency-Key": "training"}
    answer = client.post("/jobs", data=fields, files=files, headers=key)
    assert answer.status_code == 202, answer.text
    again = client.post("/jobs", data=fields, files=files)
    assert again.status_code == 409  # while it is being trained
    done = until(jobs_of(client), answer.json()["id"], "succeeded", "failed")
    assert done.status == "succeeded", done.error
    shown = client.get(f"/jobs/{done.id}").json()
    model = next(model for model in client.get("/styles").json() if model["style"] == "mine")
    assert (model["dataset"], model["card"]["images"]) == ("custom", 2)
    painted = client.post(shown["links"]["stylize"], files={"image": png})
    assert painted.status_code == 200, painted.text
    assert len(client.get(shown["links"]["losses"]).json()) == 4  # two of giving the photograph back, two of painting
    assert client.post("/jobs", data=fields, files=files).status_code == 409  # published
    repeated = client.post("/jobs", data=fields, files=files, headers=key)
    assert (repeated.status_code, repeated.json()["id"]) == (202, done.id)  # but with its key it is the same job
    assert not list((settings.cache / "datasets").glob("content_images*"))  # the photographs are not kept elsewhere
    assert client.delete(f"/jobs/{done.id}").status_code == 204
    assert client.post(shown["links"]["stylize"], files={"image": png}).status_code == 200  # outlives its job
    assert client.delete("/styles/aonet/custom/mine", headers=admin(settings)).status_code == 204
    assert client.post(shown["links"]["stylize"], files={"image": png}).status_code == 404


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"kind": ""}, 422, "kind is missing"),
        ({"kind": "gaty"}, 422, "gatys or train"),
        ({"style": ""}, 422, "Name a style"),
        ({"style": "wav"}, 404, "Did you mean 'wave"),
        ({"num_iterations": "many"}, 422, "num_iterations"),
        ({"num_iterations": "0"}, 422, "num_iterations"),
        ({"stile": "wave"}, 422, "stile: no such parameter"),
        ({"style_layers": "relu1_1"}, 422, "no such parameter"),
        ({"recipe": "report"}, 422, "IMPASTO_VGG16"),
        ({"recipe": "theirs"}, 422, "recipe"),
        ({"style_blend": "1,2"}, 422, "style"),
        ({"content_weight": "nan"}, 422, "content_weight"),
        ({"webhook": "https://example.org/"}, 422, "IMPASTO_WEBHOOK_SECRET"),
    ],
)
def test_a_wrong_parameter_is_told_at_once(client, png, fields, status, said):
    fields = {"kind": "gatys", "style": "wave", **fields}
    answer = client.post("/jobs", data=fields, files={"image": png})
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]
    assert client.app.state.submissions.storage.groups("jobs") == {}  # nothing is left
    assert client.app.state.submissions.jobs.store.list("all") == []


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"name": ""}, 422, "name"),
        ({"name": "../x"}, 422, "name"),
        ({"name": "mine", "arch": "aone"}, 422, "arch"),
        ({"name": "mine", "style": "wave"}, 422, "not both"),
        ({"name": "mine", "recipe": "theirs"}, 422, "ours or report"),
        ({"name": "mine", "size": "7"}, 422, "size"),
        ({"name": "mine", "recipe": "report"}, 422, "IMPASTO_VGG16"),
        ({"name": "mine", "content_layers": "relu9_9"}, 422, "relu"),
        ({"name": "wave", "dataset": "coco"}, 409, "already"),
    ],
)
def test_a_wrong_training_is_told_at_once(client, png, fields, status, said):
    files = {"style_image": png, "content_images": png}
    answer = client.post("/jobs", data={"kind": "train", **fields}, files=files)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]
    assert client.app.state.submissions.storage.groups("jobs") == {}


def test_a_training_needs_photographs(client, png):
    for fields, status in (({}, 422), ({"dataset": "coco"}, 404)):
        answer = client.post("/jobs", data={"kind": "train", "name": "mine", **fields}, files={"style_image": png})
        assert answer.status_code == status, answer.text
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("notes.txt", "nothing")
    for sent, status in ((archive.getvalue(), 422), (archive.getvalue()[:-30], 400)):
        files = {"style_image": png, "content_images": ("photographs.zip", sent)}
        answer = client.post("/jobs", data={"kind": "train", "name": "mine"}, files=files)
        assert answer.status_code == status, answer.text


def test_the_decoding_of_photographs_has_an_end(client, settings, png, monkeypatch):
    monkeypatch.setattr("impasto.api.services.job_inputs.LONGEST_DECODING", 0.0)
    files = [("style_image", png), *[("content_images", png)] * 3]
    answer = client.post("/jobs", data={"kind": "train", "name": "mine"}, files=files)
    assert answer.status_code == 413 and "Send fewer" in answer.json()["detail"], answer.text
    assert client.app.state.submissions.storage.groups("jobs") == {}


def test_broken_pictures_are_told_by_name(client, png):
    fields = {"kind": "gatys", "style": "wave"}
    for sent, status in ((b"", 400), (b"text", 415), (png[:-40], 400)):
        answer = client.post("/jobs", data=fields, files={"image": ("cat.png", sent)})
        assert answer.status_code == status
        assert answer.json()["detail"].startswith("cat.png: ")
    assert client.post("/jobs", data=fields).status_code == 422
    assert client.post("/jobs", data=fields, files=[("image", png), ("image", png)]).status_code == 422
    assert client.post("/jobs", data=fields, files={"image": png, "content_images": png}).status_code == 422
    assert client.post("/jobs", json=fields).status_code == 422


def test_what_is_stored_was_written_by_us(client, photo):
    exif = Image.Exif()
    exif[0x010F] = "secret camera"
    sent = io.BytesIO()
    Image.fromarray(photo).save(sent, "jpeg", exif=exif, comment=b"secret comment")
    job = submit(client, sent.getvalue())
    (key,) = jobs_of(client).get(job["id"]).inputs["image"]
    stored = client.app.state.submissions.storage.get(key)
    assert stored.startswith(b"\x89PNG")
    assert b"secret" not in stored


def test_an_idempotency_key_submits_once(client, png, photo):
    key = {"Idempotency-Key": "one"}
    first = submit(client, png, key)
    assert submit(client, png, key)["id"] == first["id"]
    assert list(client.app.state.submissions.storage.groups("jobs")) == [first["id"]]
    fields = {"kind": "gatys", "style": "wave", "num_iterations": "3"}
    assert client.post("/jobs", data=fields, files={"image": png}, headers=key).status_code == 409
    assert submit(client, png, {"Idempotency-Key": "two"})["id"] != first["id"]


def test_pages_of_jobs_for_the_admin_alone(client, settings, png):
    ids = [submit(client, png)["id"] for _ in range(3)]
    assert client.get("/jobs").status_code == 403
    client.headers.update(admin(settings))
    client.post(f"/jobs/{ids[1]}/cancel")
    page = client.get("/jobs?limit=2").json()
    assert [job["id"] for job in page["jobs"]] == [ids[2], ids[1]]
    assert [job["id"] for job in client.get(page["next"]).json()["jobs"]] == [ids[0]]
    assert [job["id"] for job in client.get("/jobs?status=canceled").json()["jobs"]] == [ids[1]]
    assert client.get("/jobs?status=no").status_code == 422
    assert client.get("/jobs", headers={"Host": "evil.example:8000"}).status_code == 403
    for path in ("/styles/aonet/coco/wave", "/styles/no/such/model"):
        assert client.delete(path).status_code in (403, 404)
    assert client.get(f"/jobs/{ids[0]}").status_code == 200


def test_cancel_before_it_runs(client, png):
    job = submit(client, png)
    assert client.post(f"/jobs/{job['id']}/cancel").json()["status"] == "canceled"
    assert client.post(f"/jobs/{job['id']}/cancel").json()["status"] == "canceled"
    for kept in ("result", "preview", "losses", "losses.png"):
        answer = client.get(f"/jobs/{job['id']}/{kept}")
        assert (answer.status_code, answer.json()["status"]) == (409, "canceled")


def events_of(client: TestClient, id: str, last: str | None = None) -> list[tuple[str, str | None, dict]]:
    """(event, id, data) of the whole stream."""
    headers = {"Last-Event-ID": last} if last else {}
    text = client.get(f"/jobs/{id}/events", headers=headers).text
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
    return found


def test_events_tell_what_happens_and_what_was_missed(client, png):
    id = submit(client, png)["id"]
    jobs = jobs_of(client)

    def work() -> None:
        time.sleep(1)
        mine = jobs.claim(id)
        time.sleep(1)
        jobs.beat(mine, News(progress=Progress(step=1, total=2), files={"preview": f"jobs/{id}/1/preview.png"}))
        time.sleep(1)
        jobs.finish(mine, "succeeded")

    thread = threading.Thread(target=work)
    thread.start()
    seen = events_of(client, id)
    thread.join()
    assert [name for name, *_ in seen] == ["status", "progress", "status", "progress", "preview", "status", "done"]
    assert seen[-1][2]["status"] == "succeeded"
    ids = [int(number) for _, number, _ in seen if number]
    assert ids == sorted(set(ids))
    missed = events_of(client, id, last=str(ids[1]))
    assert [name for name, *_ in missed] == ["status", "progress", "preview", "done"]
    assert missed[1][2]["step"] == 1
    assert client.get(f"/jobs/{id}/events", headers={"Last-Event-ID": str(ids[-1])}).status_code == 204
    assert client.get("/jobs/nothing/events").status_code == 404


def test_a_stream_of_events_is_ended_after_a_while_and_goes_on_later(client, png, monkeypatch):
    monkeypatch.setattr("impasto.api.routers.events.LONGEST", 0.2)
    jobs, id = jobs_of(client), submit(client, png)["id"]

    def seen(last: int | None) -> list[str]:
        async def listen() -> list[str]:
            stream = events(lambda: jobs.get(id), lambda job: view(job).model_dump(mode="json"), last, lambda: False)
            return [event.event async for event in stream]

        return asyncio.run(asyncio.wait_for(listen(), 30))

    assert seen(None) == ["status", "progress"]
    last = jobs.get(id).version
    assert seen(last) == []
    jobs.cancel(id)
    assert seen(last)[-1] == "done"


def test_expired_and_unknown(client, settings, png):
    old, older = (submit(client, png)["id"] for _ in range(2))
    submissions = client.app.state.submissions
    for id, hours in ((old, 167), (older, 169)):
        jobs_of(client).cancel(id)
        jobs_of(client).mark(id, finished=datetime.now(UTC) - timedelta(hours=hours))
    submissions.storage.put("jobs/orphan/1/x", b"1")
    path = submissions.storage.folder / "jobs/orphan/1/x"
    for part in (path, path.parent, path.parent.parent):
        os.utime(part, (1000, 1000))
    clean(submissions.jobs, submissions.storage, settings)
    assert client.get(f"/jobs/{older}").status_code == 410
    assert client.get(f"/jobs/{'0' * 32}").status_code == 404
    assert client.get(f"/jobs/{old}").status_code == 200
    assert set(submissions.storage.groups("jobs")) == {old}


def test_a_store_that_is_away_is_503_soon(settings, png):
    away = settings.model_copy(update={"store": f"redis://127.0.0.1:{free_port()}/0"})
    with TestClient(create_app(away)) as client:
        answer = client.post("/jobs", data={"kind": "gatys", "style": "wave"}, files={"image": png})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        asked = client.get("/jobs/x")
        assert (asked.status_code, int(asked.headers["retry-after"]) > 0) == (503, True)
        assert client.get("/livez").status_code == 200


def test_a_storage_that_cannot_be_written_is_503(settings, tmp_path, png):
    (tmp_path / "file").write_text("")
    broken = settings.model_copy(update={"storage": str(tmp_path / "file" / "storage")})
    with TestClient(create_app(broken)) as client:
        answer = client.post("/jobs", data={"kind": "gatys", "style": "wave"}, files={"image": png})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert client.app.state.submissions.jobs.store.list("all") == []


def test_a_broker_that_is_away_keeps_nobody_waiting(settings, png):
    away = settings.model_copy(update={"broker": f"redis://127.0.0.1:{free_port()}/0"})
    with TestClient(create_app(away)) as client:
        assert submit(client, png)["status"] == "queued"


def test_the_largest_body_is_another_one_for_jobs(settings, png):
    small = settings.model_copy(update={"max_bytes": 10_000, "max_upload": 30_000})
    with TestClient(create_app(small)) as client:
        fields = {"kind": "gatys", "style": "wave"}
        one = client.post("/jobs", data=fields, files={"image": b"x" * 20_000})
        assert (one.status_code, one.json()["limit"]) == (413, 10_000)  # of one picture
        all = client.post("/jobs", data=fields, files={"image": b"x" * 40_000})
        assert (all.status_code, all.json()["limit"]) == (413, 30_000)


def test_the_form_is_documented(client):
    schema = client.get("/openapi.json").json()
    form = schema["paths"]["/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"kind", "image", "style_image", "content_images", "num_iterations", "steps"} <= set(form["properties"])
    assert client.get("/docs").status_code == 200


def test_a_strip_is_refused(client):
    strip = encode(Picture(np.zeros((16, 400, 3), np.uint8)), "png")
    answer = client.post("/jobs", data={"kind": "gatys", "style": "wave"}, files={"image": strip})
    assert (answer.status_code, "20 to 1" in answer.json()["detail"]) == (400, True)


def test_a_damaged_archive_is_told(client, png):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("one.png", b"1" * 10_000)
    damaged = bytearray(archive.getvalue())
    damaged[40:50] = b"\xff" * 10
    files = {"style_image": png, "content_images": ("photographs.zip", bytes(damaged))}
    answer = client.post("/jobs", data={"kind": "train", "name": "mine"}, files=files)
    assert answer.status_code == 400, answer.text


def test_a_kept_style_belongs_to_its_loss_network(settings, png):
    with TestClient(create_app(settings.model_copy(update={"vgg16": "imagenet"}))) as client:
        answer = client.post("/jobs", data={"kind": "gatys", "style": "wave"}, files={"image": png})
        assert (answer.status_code, "loss network" in answer.json()["detail"]) == (422, True)


def test_files_of_jobs_that_cannot_be_looked_up_are_left(client, settings, png, monkeypatch):
    id = submit(client, png)["id"]
    submissions = client.app.state.submissions
    folder = submissions.storage.folder / "jobs" / id
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (1000, 1000))

    def away(id: str) -> Job:
        raise Unavailable("away")

    monkeypatch.setattr(submissions.jobs.store, "get", away)
    with pytest.raises(Unavailable):
        clean(submissions.jobs, submissions.storage, settings)
    assert list(folder.rglob("*.png"))


def test_view_hides_what_is_ours(client, png):
    shown = submit(client, png)
    assert not {"webhook", "inputs", "idempotency_key", "fingerprint", "beat"} & set(shown)
    assert {"publishes", "webhook"} <= set(Job.model_fields)
