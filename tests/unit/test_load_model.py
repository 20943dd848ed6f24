"""The package as a library: what a loaded model paints, and what it refuses."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import impasto as package
from impasto.core.errors import BadParameter, BadPicture, NotFound, TooLarge
from impasto.core.paint_params import PaintParams
from impasto.core.pictures.codec import decode
from impasto.core.settings import ROOT, Settings
from impasto.core.stylize.engine import open_engine
from impasto.core.stylize.stylize import paint

NAME = "aonet/coco/plain"


@pytest.fixture
def model(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> package.Model:
    for name in ("models", "styles", "cache", "device"):
        monkeypatch.setenv(f"IMPASTO_{name.upper()}", str(getattr(settings, name)))
    return package.load_model(NAME)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_an_array_is_painted_as_stylize_paints_it(model, settings, models, photo):
    painter = open_engine(settings).painter(models / f"{NAME}.safetensors")
    expected = paint(painter, decode(png(Image.fromarray(photo))), PaintParams(style="plain")).rgb
    painting = model(photo)
    assert painting.dtype == np.uint8 and painting.shape == photo.shape
    np.testing.assert_array_equal(painting, expected)


def test_an_image_gives_an_image(model, photo):
    painting = model(Image.fromarray(photo))
    assert isinstance(painting, Image.Image) and painting.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(painting), model(photo))


def test_alpha_is_kept_and_the_image_as_it_was(model, photo):
    image = Image.fromarray(photo).convert("RGBA")
    image.putalpha(Image.new("L", image.size, 100))
    image.getexif()[0x0112] = 6  # turned by a quarter
    painting = model(image)
    assert (painting.mode, painting.size) == ("RGBA", (37, 50))
    assert painting.getchannel("A").getextrema() == (100, 100)
    assert image.size == (50, 37)


def test_options_are_those_of_stylize(model, photo):
    np.testing.assert_array_equal(model(photo, strength=0), photo)
    assert model(photo, max_side=30).shape == (22, 30, 3)
    assert (model(photo, preserve_color=True) != model(photo)).any()
    assert model(photo, paint_size=32).shape == photo.shape
    for wrong in ({"strength": 2}, {"paint_size": 3}, {"max_side": 1}):
        with pytest.raises(BadParameter, match=next(iter(wrong))):
            model(photo, **wrong)
    with pytest.raises(TypeError, match="format"):
        model(photo, format="jpeg")


def test_another_array_is_refused(model, photo):
    for array in (photo.astype(np.float32), photo[..., 0], photo[..., :2]):
        with pytest.raises(BadPicture, match=r"uint8 \(H, W, 3\)"):
            model(array)
    with pytest.raises(BadPicture, match="16 or more a side"):
        model(photo[:15])
    with pytest.raises(TooLarge, match="the limit is 16,000,000"):
        model(np.zeros((4001, 4000, 3), np.uint8), paint_size="full")


def test_a_large_array_is_painted(model):
    assert model(np.zeros((16, 20_000, 3), np.uint8)).shape == (16, 20_000, 3)


@pytest.mark.parametrize("name", ["aonet/coco/plan", "plain", "aonet/coco/../coco/plain", ""])
def test_an_unknown_name_says_the_nearest(model, name):
    with pytest.raises(NotFound) as refused:
        package.load_model(name)
    assert refused.value.extra["known"] == [NAME, "vgg16/coco/plain"]
    if name:
        assert refused.value.extra["nearest"].endswith("/coco/plain")


def test_importing_the_package_is_light():
    code = "import sys, impasto; assert not {'numpy', 'torch', 'pydantic', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
