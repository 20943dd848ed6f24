"""Attacks that once worked, by somebody who has read the code: each is of a kind, and the kind is closed."""

import io
import os
import shutil
import zipfile
from itertools import pairwise

import numpy as np
import pytest
from fastapi.testclient import TestClient

from impasto.api.keys import Keys
from impasto.api.main import create_app
from impasto.api.middleware.access import network
from impasto.core.errors import BadParameter
from impasto.core.jobs.webhooks import check_url
from impasto.core.nets.checkpoints import place
from impasto.core.params import TrainJobParams
from impasto.core.pictures.animation import is_animated
from impasto.core.settings import ROOT
from tests.helpers.forms import multipart
from tests.helpers.work import gatys_job, train_job


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.mark.parametrize(
    "charset",
    [
        "punycode",
        "utf-7",
        "unicode_escape",
        "undefined",
        "idna",
        "UTF-16",
        '"punycode"',
        "hex",
        "",
        "utf-8; charset=hex",
    ],
)
def test_a_form_in_another_encoding_is_not_parsed(client, charset):
    """400 KB of punycode held the event loop for 17 s; a lone surrogate ended in a 500."""
    body, headers = multipart(("note", "a" * 400_000 + "-" + "b" * 400))
    headers["Content-Type"] += f"; charset={charset}"
    answer = client.post("/jobs", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert "send UTF-8" in answer.json()["detail"]


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf8"', "us-ascii"])
def test_a_form_that_says_that_it_is_utf_8_is_read(client, charset):
    body, headers = multipart(("kind", "gatys"), ("stýle", "wave"))
    headers["Content-Type"] += f"; charset={charset}"
    answer = client.post("/jobs", content=body, headers=headers)
    assert answer.status_code == 422 and "send UTF-8" not in answer.text


def test_a_pictures_token_serves_the_key_that_sent_it(settings, png, tmp_path):
    """With strength=0 a token read the photograph of another client."""
    keys = Keys(tmp_path / "keys")
    ann, bob = ({"Authorization": f"Bearer {keys.add(name, ['stylize'], None)}"} for name in ("ann", "bob"))
    with TestClient(create_app(settings.model_copy(update={"keys": str(keys.path)}))) as client:
        path = "/stylize?style=plain&strength=0"
        token = client.post(path, files={"image": png}, headers=ann).headers["Impasto-Picture"]
        assert client.post(f"{path}&picture={token}", headers=ann).status_code == 200
        answer = client.post(f"{path}&picture={token}", headers=bob)
        assert (answer.status_code, answer.json()["error"]) == (404, "picture_gone")


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_is_stored_or_deflated(client, png, packing):
    """Of 1,273 bytes of bzip2 the service had 3.8 GB."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", packing) as file:
        file.writestr("a.jpg", bytes(10_000_000))
    assert len(archive.getvalue()) < 10_000
    files = {"style_image": png, "content_images": ("photographs.zip", archive.getvalue())}
    answer = client.post("/jobs", data={"kind": "train", "name": "mine"}, files=files)
    assert answer.status_code == 422, answer.text
    assert "stores or deflates" in answer.json()["detail"]
    assert client.app.state.submissions.storage.groups("jobs") == {}


def test_an_archive_is_not_read_in_the_services_process(client, png, monkeypatch):
    """A hole in what unpacks would have been one in the service."""

    def never(*arguments: object) -> None:
        raise AssertionError("the service has read an archive")

    monkeypatch.setattr(zipfile.ZipFile, "infolist", never)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", png)
    files = {"style_image": png, "content_images": ("photographs.zip", archive.getvalue())}
    answer = client.post("/jobs", data={"kind": "train", "name": "mine"}, files=files)
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize(
    "url",
    [
        "http://[64:ff9b::a9fe:a9fe]/",  # 169.254.169.254 behind NAT64
        "http://[64:ff9b:1::a9fe:a9fe]/",
        "http://[fec0::1]/",
        "http://[::7f00:1]/",
        "http://168.63.129.16/",
        "http://[::ffff:168.63.129.16]/",
    ],
)
def test_an_address_that_leads_inside_is_not_called(url):
    with pytest.raises(BadParameter, match="private address"):
        check_url(url)


@pytest.mark.parametrize("port", [22, 25, 444, 1023])
def test_a_port_of_another_service_is_not_called(port):
    with pytest.raises(BadParameter, match=f"port {port}"):
        check_url(f"http://8.8.8.8:{port}/")
    for fine in (80, 443, 1024, 8080):
        check_url(f"http://8.8.8.8:{fine}/")


@pytest.mark.parametrize("folder", ["models", "styles"])
def test_a_training_takes_no_name_that_is_another_models(runner, photo, tmp_path, folder):
    """The name is looked at when the job comes, and by an idempotency key that was known, not even then."""
    job = train_job(runner.storage, np.kron(photo, np.ones((2, 2, 1), np.uint8)), tmp_path)
    folders = {"models": tmp_path / "bundled", "styles": runner.settings.styles}
    runner.settings = runner.settings.model_copy(update={"models": folders["models"]})
    theirs = place(folders[folder], TrainJobParams(**job.params).training())
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"somebody else's")
    done = runner.run(job)
    assert (done.status, done.error.code) == ("failed", "conflict"), done
    assert theirs.read_bytes() == b"somebody else's"
    assert "another name" in done.error.message


def test_a_training_that_was_published_before_its_worker_died_is_no_conflict(runner, photo, tmp_path):
    job = train_job(runner.storage, np.kron(photo, np.ones((2, 2, 1), np.uint8)), tmp_path)
    mine = place(runner.settings.styles, TrainJobParams(**job.params).training())
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"published")
    mine.with_suffix(".job").write_text(job.id)
    done = runner.run(job)
    assert done.status == "succeeded", done.error
    assert mine.read_bytes() == b"published"


def test_a_list_has_a_bound_before_its_items_are_checked(client, png):
    """One field of 1 MB took 1.8 GB, and its answer had 48 MB."""
    files = {"image": png, "style_image": png}
    answer = client.post("/jobs", data={"kind": "gatys", "style_blend": "a," * 400_000}, files=files)
    assert answer.status_code == 422 and len(answer.content) < 1000
    assert "400,001 values. At most 64 are allowed" in answer.json()["detail"]


def test_a_record_has_each_content_layer_once_at_most(client, png):
    """131,000 names of layers in eight fields made a record of 10 MB, which every look at the queue read."""
    fields = {"kind": "train", "name": "mine", "recipe": "report", "content_layers": ",".join(["relu2_2"] * 60)}
    answer = client.post("/jobs", data=fields, files={"style_image": png, "content_images": png})
    assert answer.status_code == 422 and "content_layers" in answer.json()["detail"]


def test_a_query_is_bounded_and_an_answer_names_no_more_wrong_parameters_than_anyone_reads(client, png):
    """4,050 unknown names were answered with 97 KB, on the event loop."""
    path = "/stylize?" + "&".join(f"x{number}=1" for number in range(4050))
    assert "At most 4,096 are allowed" in client.post(path, files={"image": png}).json()["detail"]
    path = "/stylize?style=plain&" + "&".join(f"x{number}=1" for number in range(400))
    detail = client.post(path, files={"image": png}).json()["detail"]
    assert detail.endswith("and 380 more") and len(detail) < 1000


def test_a_long_content_type_is_not_parsed(client):
    answer = client.post("/jobs", content=b"", headers={"Content-Type": "multipart/form-data" + ";" * 15_000})
    assert answer.status_code == 422 and "Content-Type has 15,019 bytes" in answer.json()["detail"]


def test_a_gif_of_endless_blocks_is_looked_at_to_an_end():
    """By the token of one such file each request held the event loop for two seconds."""
    head = b"GIF89a" + bytes([16, 0, 16, 0, 0, 0, 0]) + b"\x21\xfe"
    frames = b"\x00" + 2 * (b"\x2c" + bytes(8) + b"\x00\x02\x00")
    assert is_animated(head + b"\x01a" * 1000 + frames)
    assert not is_animated(head + b"\x01a" * 15_000_000 + frames)


def test_an_ipv4_address_in_ipv6_is_that_client(settings):
    """`::ffff:a.b.c.d` of everybody was one network, and one client's flood was everybody's 429."""
    assert network("::ffff:192.0.2.1") == network("192.0.2.1") == "192.0.2.1"
    assert network("2001:db8::1") == network("2001:db8::2") == "2001:db8::/64"


def test_an_idempotency_key_is_its_senders_without_keys_too(settings, png):
    """Whoever guessed `order-1` was given another's job, and could delete it."""
    app = create_app(settings.model_copy(update={"models": ROOT / "models"}))
    with TestClient(app) as ann:
        bob = TestClient(app, client=("192.0.2.7", 50000))
        send = {"data": {"kind": "gatys", "style": "wave"}, "files": {"image": png}}
        headers = {"Idempotency-Key": "order-1"}
        hers = ann.post("/jobs", headers=headers, **send).json()["id"]
        assert ann.post("/jobs", headers=headers, **send).json()["id"] == hers
        assert bob.post("/jobs", headers=headers, **send).json()["id"] != hers


def test_losses_of_a_long_run_are_thinned_out(client, png, settings):
    """Those of a training of a million steps took seconds for each request."""
    submissions = client.app.state.submissions
    job = submissions.jobs.submit(gatys_job(submissions.storage, np.zeros((32, 32, 3), np.uint8)))
    rows = "".join(f"{number},1.5\n" for number in range(1, 5001))
    submissions.storage.put(f"jobs/{job.id}/1/losses.csv", f"step,total\n{rows}".encode())
    submissions.jobs.mark(job.id, files={"losses": f"jobs/{job.id}/1/losses.csv"})
    found = client.get(f"/jobs/{job.id}/losses").json()
    assert len(found) == 1000 and found[-1] == {"step": 5000, "total": 1.5}
    assert {later["step"] - row["step"] for row, later in pairwise(found)} == {5}


def test_a_damaged_model_tells_clients_no_path(settings, models, png, tmp_path):
    (settings.styles / "aonet/coco").mkdir(parents=True)
    shutil.copy(models / "aonet/coco/plain.safetensors", settings.styles / "aonet/coco/torn.safetensors")
    with (settings.styles / "aonet/coco/torn.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 1000)
    with TestClient(create_app(settings)) as client:
        for path in ("/stylize?style=torn", "/compare?style=torn"):
            answer = client.post(path, files={"image": png})
            assert str(tmp_path) not in answer.text, answer.text
