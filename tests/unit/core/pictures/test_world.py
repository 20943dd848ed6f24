"""Pictures as phones, cameras, editors and webcams write them: each kind, with the right value."""

from typing import Any

import numpy as np
import pytest

from impasto.core.errors import BadPicture, TooLarge, UnsupportedFormat
from impasto.core.paint_params import PaintParams
from impasto.core.pictures.codec import Bytes, Picture, decode, resized, shrink
from impasto.core.pictures.guard import DEFAULT_LIMITS, OWN, Limits, check, fit, opened
from impasto.core.stylize.stylize import paint
from tests.helpers.pictures import LOSSLESS, adobe_rgb, chunk, display_p3, far, iccp, png, sample, saved, slope
from tests.helpers.world import cicp, cutout, gama, nclx, raws, without_end

# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [(4284, 5712), (4024, 6048), (4160, 6240), (6048, 8064), (8064, 6048), (3000, 12_000), (3000, 16_382)]
)
def test_todays_photographs_and_panoramas_are_taken(size: tuple[int, int]) -> None:
    data = png(np.zeros((16, 16), np.uint8), 0, size=size)
    with opened(data, check(data)) as image:
        assert (image.height, image.width) == size


def test_a_jpeg_over_the_limits_is_decoded_at_half_its_size() -> None:
    blocks = np.random.default_rng(1).integers(40, 200, (16, 24, 1), dtype=np.uint8).repeat(3, 2)  # grey
    data = saved(blocks.repeat(8, 0).repeat(8, 1), "JPEG")  # 128 x 192
    for limits in (Limits(max_pixels=128 * 192 - 1), Limits(max_side=191), Limits(max_pixels=64 * 96)):
        picture = decode(data, limits)
        assert far(picture.rgb, blocks.repeat(4, 0).repeat(4, 1)) <= 2
    assert decode(data).rgb.shape == (128, 192, 3)
    with pytest.raises(TooLarge):  # half of it is too large as well
        decode(data, Limits(max_pixels=64 * 96 - 1))
    with pytest.raises(TooLarge):
        decode(saved(slope(128, 192), "PNG"), Limits(max_pixels=128 * 192 - 1))


def test_odd_sides_are_halved_upwards() -> None:
    assert decode(saved(slope(101, 67), "JPEG"), Limits(max_side=100)).rgb.shape == (51, 34, 3)


@pytest.mark.parametrize(
    ("size", "limits"),
    [
        ((300, 400), Limits(max_pixels=60_000)),
        ((97, 1001), Limits(max_pixels=9_999)),
        ((20, 900), Limits(max_side=800)),
    ],
)
def test_what_the_error_says_would_do_does(size: tuple[int, int], limits: Limits) -> None:
    with pytest.raises(TooLarge, match="before you send it") as refused:
        decode(saved(slope(*size), "PNG"), limits)
    assert "max_side" not in refused.value.extra  # which is the name of the answer's size
    smaller = fit(*size, refused.value.extra["scale_to"])
    assert decode(saved(slope(*smaller), "PNG"), limits).rgb.shape == (*smaller, 3)


def test_own_files_have_no_limit() -> None:
    data = png(np.zeros((16, 16), np.uint8), 0, size=(20_000, 30_000))
    with opened(data, check(data, OWN), OWN) as image:
        assert image.size == (30_000, 20_000)


# --- transparent pixels ---------------------------------------------------------------------------

HIDDEN = [(0, 0, 0), (255, 255, 255), (255, 120, 0)]


@pytest.mark.parametrize("format", [name for name in LOSSLESS if name != "BMP"])
def test_what_nobody_sees_makes_no_difference(format: str) -> None:
    black, white, orange = (decode(saved(cutout(hidden), format)) for hidden in HIDDEN)
    assert far(black.rgb, white.rgb) == far(black.rgb, orange.rgb) == 0
    assert black.alpha is not None
    seen = black.alpha > 0
    assert far(black.rgb[seen], cutout(HIDDEN[0])[..., :3][seen]) == 0


def test_transparent_pixels_take_the_colours_of_visible_ones_near_them() -> None:
    rgba = np.zeros((64, 200, 4), np.uint8)
    rgba[:, :20] = (240, 150, 40, 255)
    rgba[:, 180:] = (40, 60, 200, 255)
    rgb = decode(saved(rgba, "PNG")).rgb
    assert far(rgb[:, 20:40], np.full((64, 20, 3), (240, 150, 40), np.uint8)) <= 30
    assert far(rgb[:, 160:180], np.full((64, 20, 3), (40, 60, 200), np.uint8)) <= 30


def test_a_picture_of_which_nothing_is_visible_is_white() -> None:
    assert (decode(saved(np.zeros((32, 48, 4), np.uint8), "PNG")).rgb == 255).all()


def blurred(rgb: Bytes) -> Bytes:
    """A network whose every pixel is the mean of the 9 x 9 around it."""
    padded = np.pad(rgb.astype(float), ((4, 4), (4, 4), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (9, 9), axis=(0, 1))
    return windows.mean((-1, -2)).astype(np.uint8)


@pytest.mark.parametrize("asked", [{}, {"max_side": 50}, {"paint_size": 40}, {"max_side": 50, "paint_size": 30}])
def test_cut_outs_that_look_alike_are_painted_alike(asked: dict[str, Any]) -> None:
    params = PaintParams(style="any", **asked)
    black, white, orange = (paint(blurred, decode(saved(cutout(hidden), "PNG")), params) for hidden in HIDDEN)
    assert black.alpha is not None
    assert far(black.rgb, white.rgb) == far(black.rgb, orange.rgb) == 0
    left = black.alpha > 0
    left[:, black.width // 3 :] = False  # away from the stripe: all that is visible is orange
    assert far(black.rgb[left], np.full((left.sum(), 3), (240, 150, 40), np.uint8)) <= 20


@pytest.mark.parametrize("side", [95, 48, 33, 20])
def test_shrinking_does_not_darken_an_edge(side: int) -> None:
    rgba = cutout((0, 0, 0))
    rgba[..., :3][rgba[..., 3] > 0] = (240, 150, 40)
    small = shrink(Picture(np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3])), side)
    assert small.alpha is not None and ((small.alpha > 0) & (small.alpha < 255)).any()
    assert far(small.rgb, np.full((side, side, 3), (240, 150, 40), np.uint8)) <= 8


def test_a_faint_picture_keeps_its_colour() -> None:
    faint = Picture(np.full((40, 40, 3), (240, 150, 40), np.uint8), np.full((40, 40), 9, np.uint8))
    assert far(resized(faint, 20, 20).rgb, np.full((20, 20, 3), (240, 150, 40), np.uint8)) <= 16


# --- JPEGs without an end marker ------------------------------------------------------------------

NOISE = np.random.default_rng(2).integers(0, 256, (70, 90, 3), dtype=np.uint8)
WEBCAMS: list[dict[str, Any]] = [{}, {"quality": 60}, {"subsampling": 2, "quality": 85}]


@pytest.mark.parametrize("options", WEBCAMS)
@pytest.mark.parametrize("rgb", [slope(100, 120), NOISE, NOISE[..., 0]], ids=["slope", "noise", "grey"])
def test_a_jpeg_without_its_end_marker_is_whole(rgb: Bytes, options: dict[str, Any]) -> None:
    data = saved(rgb, "JPEG", **options)
    for bytes_missing in (1, 2):
        assert far(decode(data[:-bytes_missing]).rgb, decode(data).rgb) == 0
    halved = Limits(max_side=80)
    assert far(decode(without_end(data), halved).rgb, decode(data, halved).rgb) == 0


@pytest.mark.parametrize("options", [*WEBCAMS, {"progressive": True}])
def test_a_jpeg_cut_short_is_refused_wherever_it_was_cut(options: dict[str, Any]) -> None:
    data = saved(NOISE, "JPEG", **options)
    for length in {*range(len(data) - 150, len(data) - 3), *range(20, len(data) - 3, 97)}:
        with pytest.raises(BadPicture):
            decode(data[:length])


# --- camera raws ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", raws())
def test_a_cameras_raw_file_is_said_to_be_one(kind: str) -> None:
    with pytest.raises(UnsupportedFormat, match=r"a camera's raw file: export it as JPEG\."):
        decode(raws()[kind])


# --- colours without a profile --------------------------------------------------------------------

COLOURS = np.random.default_rng(3).integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)


@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
def test_display_p3_by_numbers_is_display_p3_by_a_profile(format: str) -> None:
    told = decode(nclx(format, COLOURS, 12, 13)).rgb
    assert far(told, decode(saved(COLOURS, format, icc_profile=display_p3())).rgb) <= 1
    assert far(told, decode(saved(COLOURS, format)).rgb) > 30
    for srgb in ((1, 13), (1, 1), (2, 2), (1, 6)):
        assert far(decode(nclx(format, COLOURS, *srgb)).rgb, decode(saved(COLOURS, format)).rgb) == 0


def test_display_p3_of_a_png() -> None:
    known = decode(png(COLOURS, 2, iccp(display_p3()))).rgb
    assert far(decode(png(COLOURS, 2, cicp(12, 13))).rgb, known) <= 1
    assert far(decode(png(COLOURS, 2, cicp(12, 13), iccp(adobe_rgb()))).rgb, known) <= 1  # numbers have precedence
    assert far(decode(png(COLOURS, 2, cicp(1, 13), gama(1.0))).rgb, COLOURS) == 0


@pytest.mark.parametrize("gamma", [1.0, 0.7, 0.55556])
@pytest.mark.parametrize("kind", [0, 2])
def test_gamma_of_a_png(gamma: float, kind: int) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    light = (levels / 255) ** (1 / gamma)
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    rgb = decode(png(levels if kind == 0 else np.dstack([levels] * 3), kind, gama(gamma))).rgb
    assert np.abs(rgb - expected[..., None]).max() <= 1.5


def test_a_gamma_that_stands_for_srgb_changes_nothing() -> None:
    for extra in ((gama(0.45455),), (chunk(b"sRGB", b"\0"), gama(1.0)), (gama(0),)):
        assert far(decode(png(COLOURS, 2, *extra)).rgb, COLOURS) == 0


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_in_words(transfer: int, name: str) -> None:
    for data in (
        *(nclx(format, COLOURS, 9, transfer) for format in ("HEIF", "AVIF")),
        png(COLOURS, 2, cicp(9, transfer)),
    ):
        with pytest.raises(UnsupportedFormat, match=rf"HDR \({name}\).*export it as SDR"):
            decode(data)


def test_the_default_limits_are_those_of_the_documentation() -> None:
    assert Limits(32_000_000, 50_000_000, 16, 16_383) == DEFAULT_LIMITS
    assert decode(sample("JPEG")).height == 32
