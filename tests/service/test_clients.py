"""Requests as clients of all kinds make them: parts without a file name, raw bodies, formats, misspelt names."""

import io
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from impasto.api.main import create_app
from impasto.core.pictures.guard import fit
from impasto.core.settings import Settings
from tests.helpers.pictures import saved
from tests.service.test_stylize import decoded, opened, problem

BOUNDARY = "a1b2c3"
NOISE = saved(np.random.default_rng(5).integers(0, 256, (700, 700, 3), dtype=np.uint8), "PNG")
"""1.5 MB: over what a field of text may have."""


@pytest.fixture
def client(settings: Settings):
    yield from opened(TestClient(create_app(settings)))


def form(data: bytes, dispositions: list[str], *fields: tuple[str, str]) -> dict[str, object]:
    """A body with a picture in a part of each Content-Disposition, and its headers."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields]
    parts += [f"Content-Disposition: form-data; {end}\r\n\r\n".encode() + data for end in dispositions]
    body = b"".join(f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in parts)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return {"content": body + f"--{BOUNDARY}--\r\n".encode(), "headers": headers}


NAMELESS = ['name="image"', "name=image", "name=\"image\"; filename*=UTF-8''k%C3%A4se.png"]


@pytest.mark.parametrize("disposition", NAMELESS)
def test_a_picture_in_a_part_without_a_file_name_is_painted(client, photo, disposition):
    for picture, shape in ((saved(photo, "PNG"), photo.shape), (NOISE, (700, 700, 3))):
        painting = client.post("/stylize?style=plain&strength=0", **form(picture, [disposition]))
        np.testing.assert_array_equal(decoded(painting), np.asarray(Image.open(io.BytesIO(picture))))
        assert decoded(client.post("/compare?style=plain", **form(picture, [disposition]))).shape[0] > min(
            384, shape[0]
        )


@pytest.mark.parametrize("format", ["JPEG", "GIF", "BMP", "WEBP"])
def test_each_kind_of_picture_in_such_a_part(client, photo, format):
    picture = saved(photo, format)
    named = client.post("/stylize?style=plain&strength=0", files={"image": ("a", picture)})
    nameless = client.post("/stylize?style=plain&strength=0", **form(picture, NAMELESS[:1]))
    np.testing.assert_array_equal(decoded(nameless), decoded(named))


@pytest.mark.parametrize("disposition", NAMELESS)
def test_a_job_takes_such_parts(client, settings, disposition):
    style = disposition.replace("image", "style_image", 1)
    answer = client.post(
        "/jobs", **form(NOISE, [disposition, style], ("kind", "gatys"), ("size", "700"), ("style_scale", "2"))
    )
    assert answer.status_code == 202, answer.text
    for name in ("image", "style_image"):
        stored = Path(settings.storage) / f"jobs/{answer.json()['id']}/inputs/{name}-0.png"
        np.testing.assert_array_equal(np.asarray(Image.open(stored)), np.asarray(Image.open(io.BytesIO(NOISE))))


def test_a_path_where_a_picture_was_meant_is_told_how(client):
    answer = client.post("/stylize?style=plain", **form(b"cat.jpg", NAMELESS[:1]))
    assert "curl -F image=@" in problem(answer, 422)["detail"]


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "application/octet-stream", "image/png; name=a.png", None])
def test_the_body_may_be_the_picture(client, photo, kind):
    headers = {"Content-Type": kind} if kind else {}
    picture = saved(photo, "PNG")
    painting = client.post("/stylize?style=plain&strength=0", content=picture, headers=headers)
    np.testing.assert_array_equal(decoded(painting), photo)
    assert decoded(client.post("/compare?style=plain", content=picture, headers=headers)).shape[0] > photo.shape[0]
    again = client.post(f"/stylize?style=plain&strength=0&picture={painting.headers['Impasto-Picture']}")
    np.testing.assert_array_equal(decoded(again), photo)


def test_another_body_is_no_picture(client, photo):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
        answer = client.post("/stylize?style=plain", content=b"a=b", headers={"Content-Type": kind})
        assert answer.status_code == 422, answer.text
    empty = client.post("/stylize?style=plain", content=b"", headers={"Content-Type": "image/png"})
    assert "curl -F image=@" in problem(empty, 422)["detail"]


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("&format=jpg", "*/*", "image/jpeg"),
        ("&format=JPEG", "*/*", "image/jpeg"),
        ("&format=Webp", "image/png", "image/webp"),
        ("", "image/webp", "image/webp"),
        ("", "image/avif, image/png;q=0.5, image/jpeg;q=0.8, */*", "image/jpeg"),
        ("", "image/*, */*;q=0.8", "image/png"),
        ("", "image/webp;q=0", "image/png"),
        ("", "image/webp;q=x, text/html", "image/png"),
    ],
)
def test_the_format_as_people_write_it(client, photo, query, accept, kind):
    painting = client.post(
        f"/stylize?style=plain{query}", files={"image": saved(photo, "PNG")}, headers={"Accept": accept}
    )
    assert painting.status_code == 200, painting.text
    assert painting.headers["content-type"] == kind
    assert f"image/{Image.open(io.BytesIO(painting.content)).format.lower()}" == kind


@pytest.mark.parametrize("style", ["Plain", "PLAIN", "aonet/coco/plain", "vgg16/coco/Plain", " plain"])
def test_a_misspelt_style_gets_the_nearest(client, photo, style):
    for route in ("stylize", "compare"):
        answer = client.post(f"/{route}", params={"style": style}, files={"image": saved(photo, "PNG")})
        body = problem(answer, 404)
        assert body["nearest"].endswith("coco/plain") and "Did you mean" in body["detail"]


def test_a_path_is_no_style(client, photo):
    answer = client.post("/stylize", params={"style": "../../etc/passwd"}, files={"image": saved(photo, "PNG")})
    assert problem(answer, 404)["error"] == "not_found"


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "AVIF"])
def test_an_animation_is_painted_by_its_first_frame_and_the_answer_says_so(client, photo, format):
    first, second = Image.fromarray(photo), Image.fromarray(255 - photo)
    buffer = io.BytesIO()
    first.save(buffer, format, save_all=True, append_images=[second], duration=100)
    animated = client.post("/stylize?style=plain&strength=0", files={"image": buffer.getvalue()})
    assert animated.headers["Impasto-Painted"] == "first frame of an animation"
    assert np.abs(decoded(animated).astype(int) - photo).mean() < 12
    still = client.post("/stylize?style=plain&strength=0", files={"image": saved(photo, format)})
    assert still.status_code == 200 and "Impasto-Painted" not in still.headers


def test_the_side_that_the_answer_names_is_taken(models, cache, photo, tmp_path):
    settings = Settings(
        models=models, styles=tmp_path, cache=cache, device="cpu", hosts="*", max_pixels=9_999, max_side=400
    )
    with TestClient(create_app(settings)) as client:
        for height, width in ((300, 100), (100, 101), (16, 500)):
            data = saved(np.zeros((height, width, 3), np.uint8), "PNG")
            side = problem(client.post("/stylize?style=plain", files={"image": data}), 413)["scale_to"]
            fitting = saved(Image.new("RGB", fit(width, height, side)), "PNG")
            answer = client.post("/stylize?style=plain", files={"image": fitting})
            assert answer.status_code == (200 if height > 16 else 400), answer.text  # 13 px a side are too few
