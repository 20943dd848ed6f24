"""The service as the page needs it: files and headers, examples, choices, pictures painted again."""

import asyncio
import io
import tomllib
import zipfile

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from impasto.api.main import create_app
from impasto.api.middleware.headers import DOCS, OURS
from impasto.api.services.upload_cache import MOST, UploadCache
from impasto.core.errors import PictureGone
from impasto.core.settings import ROOT
from tests.helpers.work import with_our_styles


def test_the_page_and_its_files_are_asked_for_again_and_not_sent_again(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for path in ("/", "/web/main.js", "/web/style.css"):
        first = client.get(path)
        assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
        again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client.get("/web/main.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/web/main.js").headers["content-encoding"] == "gzip"
    assert client.get("/web/../service.py").status_code == 404
    assert client.get("/web/nothing.js").json()["error"] == "not_found"


def test_every_answer_has_safe_headers_and_only_the_documentation_may_have_a_script_in_its_page(client, png):
    answers = [client.get(path) for path in ("/", "/web/main.js", "/styles", "/nothing")]
    answers.append(client.post("/stylize?style=plain", files={"image": png}))
    for answer in answers:
        assert answer.headers["content-security-policy"] == OURS
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "camera=(self)" in answer.headers["permissions-policy"]
    assert "unsafe" not in OURS
    assert client.get("/docs").headers["content-security-policy"] == DOCS


def test_the_page_has_no_script_in_it_and_names_no_other_host():
    files = list((ROOT / "api/web").iterdir())
    assert len([file for file in files if file.suffix == ".js"]) > 5
    for file in files:
        if file.suffix in (".js", ".css", ".html"):
            text = file.read_text().replace("http://www.w3.org/2000/svg", "")
            assert "://" not in text, file
            assert not any(word in text for word in ("innerHTML", "insertAdjacentHTML", "document.write", "eval("))
            assert file.suffix != ".js" or len(text.splitlines()) < 200, file
    page = (ROOT / "api/web/index.html").read_text()
    assert page.count("<script") == page.count('<script type="module" src=') == 1
    assert "style=" not in page
    assert "<style" not in page


def test_an_installed_copy_has_the_page():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["package-data"] == {"impasto.api": ["web/*"]}
    assert all(path.is_file() for path in (ROOT / "api/web").iterdir())  # of which the pattern reaches no deeper


def test_an_example_is_what_that_network_paints_made_once(client, settings, photo):
    path = "/styles/aonet/coco/plain/example"
    first = client.get(path)
    assert first.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(first.content)) as shown, Image.open(ROOT / "api/web/cat.jpg") as cat:
        assert shown.size == (440, 293)
        small = np.asarray(cat.resize(shown.size), int)
        assert np.abs(np.asarray(shown.convert("RGB"), int) - small).mean() > 10
    kept = list((settings.cache / "examples").glob("*.webp"))
    assert first.content in [file.read_bytes() for file in kept]
    times = {file: file.stat().st_mtime_ns for file in kept}
    assert client.get(path).content == first.content
    assert {file: file.stat().st_mtime_ns for file in times} == times
    assert client.get("/styles/vgg16/coco/plain/example").headers["etag"] != first.headers["etag"]
    again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    unknown = client.get("/styles/aonet/coco/plan/example")
    assert (unknown.status_code, unknown.json()["nearest"]) == (404, "aonet/coco/plain")


def test_a_picture_is_painted_again_without_sending_it(client, png):
    sent = client.post("/stylize?style=plain", files={"image": png})
    token = sent.headers["impasto-picture"]
    again = client.post(f"/stylize?style=plain&picture={token}")
    assert (again.content, again.headers["impasto-picture"]) == (sent.content, token)
    half = client.post(f"/stylize?style=plain&strength=0.5&format=jpeg&picture={token}")
    assert half.content == client.post("/stylize?style=plain&strength=0.5&format=jpeg", files={"image": png}).content
    sheet = client.post(f"/compare?style=plain&picture={token}")
    assert sheet.content == client.post("/compare?style=plain", files={"image": png}).content
    both = client.post(f"/stylize?style=plain&picture={token}", files={"image": png})
    assert (both.status_code, "both" in both.json()["detail"]) == (422, True)
    gone = client.post("/stylize?style=plain&picture=guessed")
    assert (gone.status_code, gone.json()["error"]) == (404, "picture_gone")
    assert "send it again" in gone.json()["detail"]
    assert "impasto-picture" not in client.post("/stylize?style=plain", files={"image": b"text"}).headers


def test_uploads_are_bounded_in_bytes_and_time(monkeypatch):
    monkeypatch.setattr("impasto.api.services.upload_cache.SECONDS", 0.2)

    async def use() -> None:
        uploads = UploadCache(10)
        assert uploads.put(bytes(11)) is None
        one, two = uploads.put(b"1111"), uploads.put(b"2222")
        assert one and two and uploads.get(one) == b"1111"  # used after the other
        three = uploads.put(b"3333")
        assert three and (uploads.get(one), uploads.get(three)) == (b"1111", b"3333")
        with pytest.raises(PictureGone):
            uploads.get(two)
        while uploads._uploads:
            await asyncio.sleep(0.01)
        assert uploads.put(bytes(10))  # what is gone is not counted
        many = UploadCache(10**9)
        tokens = [many.put(b"5") for _ in range(MOST + 1)]
        with pytest.raises(PictureGone):
            many.get(tokens[0] or "")
        assert many.get(tokens[1] or "") == b"5"
        with pytest.raises(PictureGone):
            uploads.get(one)

    asyncio.run(use())


def test_what_can_be_chosen_is_told(settings):
    (settings.datasets / "mine").mkdir(parents=True)
    with zipfile.ZipFile(settings.datasets / "more.zip", "w"):
        pass
    with TestClient(create_app(with_our_styles(settings))) as client:
        limits = client.get("/limits").json()
        assert (limits["max_bytes"], limits["max_pixels"]) == (settings.max_bytes, settings.max_pixels)
        assert limits["jobs"] is True
        assert (limits["max_upload"], limits["max_photographs"]) == (settings.max_upload, settings.max_photographs)
        assert client.get("/datasets").json() == ["mine", "more"]
        assert "wave" in client.get("/styles/kept").json()
        recipes = client.get("/recipes").json()
        assert recipes["gatys"]["num_iterations"]["default"] == 100
        assert recipes["train"]["size"]["minimum"] == 64
        assert recipes["ours"]["aonet"]["steps"] == 1400
        assert recipes["report"]["aonet"]["content_weight"] == 17
