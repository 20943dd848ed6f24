import numpy as np
import pytest
from pydantic import ValidationError

from impasto.core.errors import BadParameter, TooLarge
from impasto.core.paint_params import PaintParams
from impasto.core.pictures.codec import Picture
from impasto.core.stylize.stylize import blend, paint, seen, with_colors_of


def inverted(rgb):
    """A painter whose answer is known: the negative."""
    return 255 - rgb


def params(**changes):
    return PaintParams(**{"style": "plain"} | changes)


def test_strength_0_is_the_photograph(photo):
    np.testing.assert_array_equal(paint(inverted, Picture(photo), params(strength=0)).rgb, photo)


def test_strength_1_is_the_painting(photo):
    np.testing.assert_array_equal(paint(inverted, Picture(photo), params()).rgb, 255 - photo)


def test_strength_between_is_a_blend(photo):
    painting = paint(inverted, Picture(photo), params(strength=0.25)).rgb
    expected = 0.75 * photo.astype(float) + 0.25 * (255 - photo.astype(float))
    assert np.abs(painting - expected).max() <= 1


def test_blend_of_black_and_white():
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert (blend(black, white, 0.5) == 127).all()


def test_preserved_colours_are_the_photographs_and_brightness_the_paintings():
    photo = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    painting = np.full((4, 4, 3), 90, np.uint8)
    red, green, blue = with_colors_of(photo, painting)[0, 0].astype(float)
    assert abs(0.299 * red + 0.587 * green + 0.114 * blue - 90) <= 1.5
    assert abs((red - green) - 100) <= 4  # differences of channels are colour
    assert abs((green - blue) - 50) <= 4


def test_the_network_sees_paint_size_and_the_answer_has_the_pictures(photo):
    seen = []

    def painter(rgb):
        seen.append(rgb.shape)
        return rgb

    assert paint(painter, Picture(photo), params(paint_size=25)).rgb.shape == (37, 50, 3)
    assert paint(painter, Picture(photo), params(paint_size="full")).rgb.shape == (37, 50, 3)
    assert paint(painter, Picture(photo), params(paint_size=1280)).rgb.shape == (37, 50, 3)
    assert seen == [(18, 25, 3), (37, 50, 3), (37, 50, 3)]


def test_a_narrow_picture_is_not_shrunk_under_what_networks_paint():
    seen = []

    def painter(rgb):
        seen.append(rgb.shape)
        return rgb

    tall = np.zeros((400, 20, 3), np.uint8)
    assert paint(painter, Picture(tall), params(paint_size=100)).rgb.shape == (400, 20, 3)
    assert seen == [(100, 16, 3)]


def test_max_side_shrinks_the_answer_and_its_alpha(photo):
    alpha = np.full((37, 50), 7, np.uint8)
    painting = paint(inverted, Picture(photo, alpha), params(max_side=25))
    assert painting.rgb.shape == (18, 25, 3)
    assert painting.alpha is not None
    assert painting.alpha.shape == (18, 25)
    assert (painting.alpha == 7).all()
    assert paint(inverted, Picture(photo), params(max_side=9999)).rgb.shape == (37, 50, 3)  # never enlarged


def test_max_side_that_leaves_too_little(photo):
    with pytest.raises(BadParameter, match=r"max_side=20 shrinks the picture to 20x15 px\. A side must have 16"):
        paint(inverted, Picture(photo), params(max_side=20))


def test_the_network_is_not_shown_more_than_fits_in_memory(photo):
    with pytest.raises(TooLarge, match=r"50x37 pixels, and the limit is 1,000\. Ask for paint_size=36") as error:
        paint(inverted, Picture(photo), params(paint_size="full"), 1000)
    assert error.value.extra["paint_size"] == 36
    assert paint(inverted, Picture(photo), params(paint_size=36), 1000).rgb.shape == (37, 50, 3)


def test_alpha_is_kept(photo):
    alpha = np.arange(37 * 50, dtype=np.uint8).reshape(37, 50)
    np.testing.assert_array_equal(paint(inverted, Picture(photo, alpha), params()).alpha, alpha)


@pytest.mark.parametrize(
    "wrong",
    [
        {"strength": 1.01},
        {"strength": float("nan")},
        {"paint_size": 15},
        {"paint_size": "half"},
        {"max_side": 0},
        {"format": "gif"},
        {"arch": "resnet"},
        {"style": ""},
        {"style": "w" * 201},
        {"colour": True},
    ],
)
def test_parameters_out_of_bounds(wrong):
    with pytest.raises(ValidationError):
        params(**wrong)


@pytest.mark.parametrize(
    ("size", "paint_size", "aonet", "vgg16"),
    [
        ((300, 400), 1280, (300, 400), (600, 800)),
        ((900, 1200), 1280, (900, 1200), (960, 1280)),
        ((3000, 4000), 1280, (960, 1280), (960, 1280)),
        ((300, 400), 500, (300, 400), (375, 500)),
        ((300, 400), "full", (300, 400), (300, 400)),
        ((16, 4000), 1280, (16, 1280), (16, 1280)),
    ],
)
def test_what_a_network_sees(size, paint_size, aonet, vgg16):
    assert (seen(*size, paint_size, "aonet"), seen(*size, paint_size, "vgg16")) == (aonet, vgg16)


def test_a_painting_of_an_enlarged_picture_has_the_pictures_size(photo):
    sizes = []
    painting = paint(lambda rgb: sizes.append(rgb.shape) or rgb, Picture(photo), params(arch="vgg16")).rgb
    assert (sizes, painting.shape) == ([(74, 100, 3)], (37, 50, 3))
