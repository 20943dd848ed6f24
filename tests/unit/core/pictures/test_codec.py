"""Pictures of 16 to 64 pixels, with answers known on paper."""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from impasto.core.errors import BadParameter, BadPicture, ImpastoError, TooLarge, UnsupportedFormat
from impasto.core.pictures.codec import MEDIA_TYPES, Picture, decode, encode, resize
from impasto.core.pictures.guard import READABLE, Limits, fit
from tests.helpers.pictures import (
    FORMATS,
    LOSSLESS,
    LOSSY,
    adobe_rgb,
    chunk,
    cmyk_where_cyan_is_grey,
    colour,
    display_p3,
    far,
    grey_linear,
    iccp,
    oriented,
    planted,
    png,
    sample,
    saved,
    slope,
    tiff,
)

# --- formats and modes ----------------------------------------------------------------------------


@pytest.mark.parametrize("format", LOSSLESS)
def test_lossless_formats_come_back_exactly(format: str) -> None:
    picture = decode(sample(format))
    assert far(picture.rgb, slope()) == 0
    assert picture.alpha is None
    assert (picture.height, picture.width) == (32, 48)


@pytest.mark.parametrize("format", LOSSY)
def test_lossy_formats_come_back_nearly(format: str) -> None:
    assert far(decode(sample(format)).rgb, slope()) <= 12


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "TIFF raw"])
def test_alpha_is_kept(format: str) -> None:
    rgba = np.dstack([slope(), slope()[..., 0] | 1])
    picture = decode(saved(rgba, format))
    assert far(picture.rgb, slope()) == 0
    assert picture.alpha is not None and far(picture.alpha, rgba[..., 3]) == 0


@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
def test_alpha_of_the_phone_formats(format: str) -> None:
    rgba = np.dstack([slope(), np.full((32, 48), 128, np.uint8)])
    alpha = decode(saved(rgba, format)).alpha
    assert alpha is not None and far(alpha, rgba[..., 3]) <= 2


def test_arrays_are_writable_and_contiguous() -> None:
    picture = decode(saved(np.dstack([slope(), slope()[..., 0]]), "PNG"))
    assert picture.alpha is not None
    for array in (picture.rgb, picture.alpha):
        assert array.flags.writeable and array.flags.c_contiguous and array.dtype == np.uint8


def test_a_picture_of_many_bands_is_whole() -> None:
    tall = slope(300, 48)
    assert far(decode(saved(tall, "PNG")).rgb, tall) == 0


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP"])
def test_grey_and_one_bit(format: str) -> None:
    grey = slope()[..., 0]
    assert far(decode(saved(grey, format)).rgb, np.dstack([grey] * 3)) == 0
    bits = grey > 100
    expected = np.dstack([bits * np.uint8(255)] * 3)
    assert far(decode(saved(Image.fromarray(bits), format)).rgb, expected) == 0


def test_grey_with_alpha() -> None:
    grey, alpha = slope()[..., 0], slope()[..., 1] | 1
    picture = decode(saved(Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha))), "PNG"))
    assert far(picture.rgb, np.dstack([grey] * 3)) == 0
    assert picture.alpha is not None and far(picture.alpha, alpha) == 0


@pytest.mark.parametrize("format", ["PNG", "GIF", "TIFF", "BMP"])
def test_palette(format: str) -> None:
    image = Image.new("P", (32, 16), 1)
    image.putpalette([0, 0, 0, 10, 20, 30, 200, 100, 50])
    image.paste(2, (0, 0, 16, 16))
    picture = decode(saved(image, format))
    assert picture.rgb[0, 0].tolist() == [200, 100, 50]
    assert picture.rgb[0, 31].tolist() == [10, 20, 30]
    assert picture.alpha is None


@pytest.mark.parametrize(("format", "transparency"), [("PNG", 2), ("GIF", 2), ("PNG", bytes([255, 255, 0]))])
def test_palette_with_transparency(format: str, transparency: int | bytes) -> None:
    image = Image.new("P", (32, 16), 1)
    image.putpalette([0, 0, 0, 10, 20, 30, 200, 100, 50])
    image.paste(2, (0, 0, 16, 16))
    picture = decode(saved(image, format, transparency=transparency))
    assert picture.alpha is not None
    assert (picture.alpha[0, 0], picture.alpha[0, 31]) == (0, 255)
    assert picture.rgb[0, 31].tolist() == [10, 20, 30]


@pytest.mark.parametrize("kind", [0, 2])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png_colour_that_stands_for_transparent(dtype: type, kind: int) -> None:
    unit = 1 if dtype is np.uint8 else 257
    levels: NDArray[Any] = np.full((16, 16), 40 * unit, dtype)
    levels[3, 4] = 7 * unit
    bands = 1 + kind
    pixels = levels if bands == 1 else np.dstack([levels] * bands)
    key = chunk(b"tRNS", struct.pack(f">{bands}H", *[7 * unit] * bands))
    alpha = decode(png(pixels, kind, key)).alpha
    assert alpha is not None
    assert alpha[3, 4] == 0 and (alpha == 255).sum() == 255


@pytest.mark.parametrize(("format", "near"), [("TIFF", 0), ("JPEG", 2)])
def test_cmyk(format: str, near: int) -> None:
    """Magenta and yellow in full print red; a JPEG holds them inverted, as Adobe does."""
    data = saved(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), format)
    red = np.broadcast_to(colour([255, 0, 0]), (32, 32, 3))
    assert far(decode(data).rgb, red) <= near


ODD = [(17, 19), (37, 50), (16, 33), (101, 16)]
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
"""First row, first column, and the steps between rows and between columns, of the passes of an interlaced PNG."""


@pytest.mark.parametrize("size", ODD)
def test_odd_sizes(size: tuple[int, int]) -> None:
    for format in LOSSLESS:
        assert far(decode(saved(slope(*size), format)).rgb, slope(*size)) == 0
    for format in ("HEIF", "AVIF"):
        assert (
            far(decode(saved(np.full((*size, 3), 100, np.uint8), format)).rgb, np.full((*size, 3), 100, np.uint8)) <= 2
        )


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", ODD)
def test_jpeg_in_scans_or_not(size: tuple[int, int], progressive: bool) -> None:
    """Blocks of 8 x 8 in one grey each have one coefficient each, which quality 100 keeps."""
    blocks = np.random.default_rng(4).integers(0, 256, (14, 14), dtype=np.uint8)
    grey = blocks.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    data = saved(np.dstack([grey] * 3), "JPEG", progressive=progressive)
    assert (b"\xff\xc2" in data) == progressive
    assert far(decode(data).rgb, np.dstack([grey] * 3)) <= 2


@pytest.mark.parametrize("size", ODD)
def test_interlaced_png(size: tuple[int, int]) -> None:
    rgb, rows = slope(*size), b""
    for top, left, down, right in ADAM7:
        rows += b"".join(b"\0" + row.tobytes() for row in rgb[top::down, left::right])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8, 2, 0, 0, 1))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert far(decode(data).rgb, rgb) == 0


# --- more than 8 bits -----------------------------------------------------------------------------


def test_16_bit_grey_png_is_scaled() -> None:
    expected = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = decode(png(expected.astype(np.uint16) * 257, 0))
    assert far(picture.rgb, np.dstack([expected] * 3)) == 0


@pytest.mark.parametrize(("kind", "bands"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_and_alpha_png_is_scaled(kind: int, bands: int) -> None:
    expected = np.dstack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * bands)
    expected[0, 0] = 1  # a transparent pixel would lose its colour
    picture = decode(png(expected.astype(np.uint16) * 257, kind))
    assert far(picture.rgb, np.dstack([expected[..., 0]] * 3)) == 0
    if kind > 2:
        assert picture.alpha is not None and far(picture.alpha, expected[..., 0]) == 0


def test_10_bit_heic_is_scaled() -> None:
    buffer = io.BytesIO()
    deep = slope().astype("<u2") * 257
    pillow_heif.encode("RGB;16", (48, 32), deep.tobytes(), buffer, quality=100, chroma=444)
    assert far(decode(buffer.getvalue()).rgb, slope()) <= 4


@pytest.mark.parametrize(
    ("low", "high", "black", "white"),
    [
        (0.0, 1.0, 0, 255),
        (0.25, 0.75, 64, 191),  # within 0..1, which is then the range: not stretched
        (0.0, 1000.0, 0, 255),
        (-3.0, 5.0, 0, 255),
        (0.0, 3e38, 0, 255),
        (7.0, 7.0, 0, 0),
    ],
)
def test_float_tiff_is_scaled(low: float, high: float, black: int, white: int) -> None:
    levels = np.linspace(low, high, 256).astype(np.float32).reshape(16, 16)
    rgb = decode(saved(Image.fromarray(levels), "TIFF")).rgb
    assert (rgb[0, 0, 0], rgb[15, 15, 0]) == (black, white)
    assert (np.diff(rgb[..., 0].astype(int).ravel()) >= 0).all()


def test_float_tiff_with_no_numbers_in_it() -> None:
    levels = np.full((16, 16), 0.5, np.float32)
    levels[0, :3] = np.nan, np.inf, -np.inf
    levels[1, :2] = 0, 1
    rgb = decode(saved(Image.fromarray(levels), "TIFF")).rgb
    assert rgb[0, :4, 0].tolist() == [0, 255, 0, 128]
    with pytest.raises(BadPicture):
        decode(saved(Image.fromarray(np.full((16, 16), np.nan, np.float32)), "TIFF"))


@pytest.mark.parametrize(("top", "scale"), [(255, 1), (65535, 257), (2**31 - 1, 2**31 // 255)])
def test_32_bit_tiff_is_scaled(top: int, scale: int) -> None:
    expected = np.arange(256, dtype=np.uint8).reshape(16, 16)
    levels = np.minimum(expected.astype(np.int64) * scale, top).astype(np.int32)
    rgb = decode(saved(Image.fromarray(levels), "TIFF")).rgb
    assert far(rgb[..., 0], expected) <= 1


def test_16_bit_tiff_that_counts_from_white() -> None:
    levels = np.arange(256, dtype="<u2") * 257
    rgb = decode(tiff(levels.tobytes(), 16, photometric=0)).rgb
    assert far(rgb[..., 0].ravel(), 255 - np.arange(256, dtype=np.uint8)) == 0


def test_12_bit_tiff_is_scaled_by_its_own_range() -> None:
    white_and_black = bytes([0xFF, 0xF0, 0x00]) * 128  # two pixels of 12 bits: 4095, 0
    rgb = decode(tiff(white_and_black, 12)).rgb
    assert rgb[0, :2, 0].tolist() == [255, 0]


# --- orientation ----------------------------------------------------------------------------------

# What each EXIF orientation says of a picture: how the upright one was laid down before it was stored.
LAID_DOWN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("number", LAID_DOWN)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF raw"])
def test_orientation(format: str, number: int) -> None:
    stored = np.ascontiguousarray(LAID_DOWN[number](slope()))
    picture = decode(saved(stored, format, exif=oriented(number)))
    assert far(picture.rgb, slope()) <= (4 if format == "JPEG" else 0)


@pytest.mark.parametrize("number", [6, 7])
@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
def test_orientation_of_the_phone_formats(format: str, number: int) -> None:
    stored = np.ascontiguousarray(LAID_DOWN[number](slope()))
    data = saved(stored, format, exif=oriented(number).tobytes())
    assert format == "AVIF" or b"irot" in data  # the container turns; EXIF only repeats it
    assert far(decode(data).rgb, slope()) <= 12


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*"])
def test_broken_exif_is_ignored(exif: bytes) -> None:
    assert far(decode(saved(slope(), "JPEG", exif=exif)).rgb, slope()) <= 4


def test_orientation_out_of_range_is_ignored() -> None:
    assert far(decode(saved(slope(), "PNG", exif=oriented(9))).rgb, slope()) == 0


# --- colour profiles ------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("p3", "srgb"),
    [
        ((234, 51, 35), (255, 0, 0)),  # sRGB's own red and blue, written in Display P3
        ((0, 0, 245), (0, 0, 255)),
        ((150, 120, 90), (156, 119, 85)),
        ((128, 128, 128), (128, 128, 128)),
        ((255, 255, 255), (255, 255, 255)),
    ],
)
def test_display_p3_becomes_srgb(format: str, p3: tuple[int, ...], srgb: tuple[int, ...]) -> None:
    picture = decode(saved(Image.new("RGB", (16, 16), p3), format, icc_profile=display_p3()))
    assert far(picture.rgb[0, 0], colour(srgb)) <= 2


TO_SRGB = {  # linear light of a colour space -> linear light of sRGB, both of D65; by Bruce Lindbloom's figures
    "adobe": [[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]],
    "p3": [[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09827]],
}


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("space", TO_SRGB)
def test_whole_pictures_of_wide_gamut_become_srgb(format: str, space: str) -> None:
    """Against the arithmetic of the standards, for a thousand colours that sRGB has, too."""
    stored = np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    v = stored / 255
    light = v ** (563 / 256) if space == "adobe" else np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    light = light @ np.array(TO_SRGB[space]).T
    inside = ((light >= 0) & (light <= 1)).all(axis=2)
    assert inside.sum() > 1000
    light = light.clip(0, 1)
    known = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    profile = adobe_rgb() if space == "adobe" else display_p3()
    mine = decode(saved(stored, format, icc_profile=profile)).rgb
    assert np.abs(mine - known)[inside].max() <= 2


def test_profile_moves_palettes_and_leaves_alpha() -> None:
    image = Image.new("RGBA", (16, 16), (234, 51, 35, 77))
    picture = decode(saved(image, "PNG", icc_profile=display_p3()))
    assert far(picture.rgb[0, 0], colour([255, 0, 0])) <= 2
    assert picture.alpha is not None and (picture.alpha == 77).all()
    palette = image.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE)
    assert far(decode(saved(palette, "PNG", icc_profile=display_p3())).rgb[0, 0], colour([255, 0, 0])) <= 2


def test_grey_profile() -> None:
    """Linear 55/255 = 0.2157 is 128 in sRGB."""
    picture = decode(saved(Image.new("L", (16, 16), 55), "PNG", icc_profile=grey_linear()))
    assert far(picture.rgb[0, 0], colour([128, 128, 128])) <= 2
    deep = decode(png(np.full((16, 16), 55 * 257, np.uint16), 0, iccp(grey_linear())))
    assert far(deep.rgb[0, 0], colour([128, 128, 128])) <= 2


@pytest.mark.parametrize(("format", "near"), [("TIFF", 2), ("JPEG", 4)])
def test_cmyk_profile(format: str, near: int) -> None:
    """L* = 50 is 119 in sRGB. Without the profile cyan would be (0, 255, 255)."""
    profile = cmyk_where_cyan_is_grey()
    for ink, grey in (((0, 0, 0, 0), 255), ((255, 0, 0, 0), 119), ((0, 0, 0, 255), 0)):
        picture = decode(saved(Image.new("CMYK", (16, 16), ink), format, icc_profile=profile))
        assert far(picture.rgb[8, 8], colour([grey] * 3)) <= near


def test_srgb_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert far(decode(saved(noise, "PNG", icc_profile=profile)).rgb, noise) == 0


@pytest.mark.parametrize("profile", [b"nonsense", display_p3()[:200], grey_linear(), cmyk_where_cyan_is_grey()])
def test_profile_that_is_broken_or_for_other_channels_is_ignored(profile: bytes) -> None:
    assert far(decode(saved(slope(), "PNG", icc_profile=profile)).rgb, slope()) == 0


def test_grey_with_a_colour_profile() -> None:
    """Display P3 has sRGB's curve and white: grey stays."""
    picture = decode(saved(Image.new("L", (16, 16), 90), "JPEG", icc_profile=display_p3()))
    assert far(picture.rgb[0, 0], colour([90, 90, 90])) <= 1


# --- animation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_an_animation(format: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "lime")]
    picture = decode(saved(frames[0], format, save_all=True, append_images=frames[1:]))
    assert (picture.rgb == (255, 0, 0)).all()


# --- what is refused ------------------------------------------------------------------------------


def test_empty_file() -> None:
    with pytest.raises(BadPicture, match="empty"):
        decode(b"")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7 ...", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"8BPS\0\1", "Photoshop"),
        (b"hello", "unknown"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "unknown"),
        (b"RIFF\0\0\0\0WAVE", "unknown"),
    ],
)
def test_what_is_not_read_is_told_what_is(data: bytes, name: str) -> None:
    with pytest.raises(UnsupportedFormat, match=name) as caught:
        decode(data)
    assert READABLE in caught.value.message


def test_too_many_bytes() -> None:
    data = sample("PNG")
    with pytest.raises(TooLarge, match=f"{len(data):,} bytes; the limit is 100") as caught:
        decode(data, Limits(max_bytes=100))
    assert caught.value.extra == {"limit": 100, "actual": len(data)}
    decode(data, Limits(max_bytes=len(data)))


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "HEIF"])
def test_too_many_pixels_in_each_format(format: str) -> None:
    with pytest.raises(TooLarge) as caught:
        decode(sample(format), Limits(max_pixels=32 * 48 - 1, min_side=17))  # a JPEG of 16 x 24 would be too small
    assert caught.value.extra == {"limit": 1535, "actual": 1536, "scale_to": 47}
    decode(sample(format), Limits(max_pixels=32 * 48))


def test_too_many_pixels_in_a_heic() -> None:
    """The encoder makes 64 x 64 of 32 x 48 and says which part to show: the whole is what is decoded."""
    with pytest.raises(TooLarge) as caught:
        decode(sample("HEIF"), Limits(max_pixels=64 * 64 - 1))
    assert caught.value.extra == {"limit": 4095, "actual": 4096, "scale_to": 63}
    assert decode(sample("HEIF"), Limits(max_pixels=64 * 64)).rgb.shape == (32, 48, 3)


@pytest.mark.parametrize("side", [7_072, 10_000, 100_000])
def test_png_bomb_is_refused_by_its_header(side: int) -> None:
    data = png(np.zeros((16, 16), np.uint8), 0, size=(side, side))
    with pytest.raises(TooLarge, match="its longer side to 7,071") as caught:
        decode(data)
    assert caught.value.extra == {"limit": 50_000_000, "actual": side * side, "scale_to": 7071}


@pytest.mark.parametrize(
    ("format", "mark", "offset", "code"),
    [
        ("BMP", b"BM", 18, "<ii"),
        ("GIF", b"GIF8", 6, "<HH"),
        ("JPEG", b"\xff\xc0", 5, ">HH"),
        ("HEIF", b"ispe", 8, ">II"),  # which has a crop besides, of 48 x 32
        ("AVIF", b"ispe", 8, ">II"),
    ],
)
def test_bombs_of_other_formats(format: str, mark: bytes, offset: int, code: str) -> None:
    data = bytearray(sample(format))
    struct.pack_into(code, data, data.index(mark) + offset, 20_000, 20_000)
    with pytest.raises(TooLarge, match="20,000 x 20,000"):
        decode(bytes(data))


def test_tiff_bombs() -> None:
    with pytest.raises(TooLarge):
        decode(tiff(bytes(256), 8, t256=20_000, t257=20_000))
    with pytest.raises(TooLarge):  # 16 x 16 pixels, cut from a tile of 20,000 x 20,000
        decode(tiff(bytes(256), 8, t322=20_000, t323=20_000))
    with pytest.raises(BadPicture):  # more pixels than it has bytes for
        decode(tiff(bytes(256), 8, t256=64, t257=64))


@pytest.mark.parametrize(("height", "width"), [(48, 32), (33, 1000), (16, 5000), (777, 778), (64, 64)])
def test_scale_to_is_the_largest_side_that_fits(height: int, width: int) -> None:
    limit = 1000
    with pytest.raises(TooLarge) as caught:
        decode(png(np.zeros((16, 16), np.uint8), 0, size=(height, width)), Limits(max_pixels=limit))
    side = caught.value.extra["scale_to"]
    assert np.prod(fit(height, width, side)) <= limit
    assert np.prod(fit(height, width, side + 2)) > limit


def test_small_sides() -> None:
    assert decode(saved(slope(16, 16), "PNG")).height == 16
    for height, width in ((15, 32), (32, 15), (1, 1)):
        with pytest.raises(BadPicture, match="send one of 16 or more a side") as caught:
            decode(saved(slope(height, width), "PNG"))
        assert caught.value.extra == {"limit": 16, "actual": min(height, width)}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_file_cut_short(format: str, part: float) -> None:
    data = saved(np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8), format)
    with pytest.raises(BadPicture, match="cut short"):
        decode(data[: int(len(data) * part)])


@pytest.mark.parametrize("format", FORMATS)
def test_only_the_first_bytes(format: str) -> None:
    for length in (12, 16, 24, 32, 40):
        with pytest.raises(BadPicture):
            decode(sample(format)[:length])


@pytest.mark.parametrize("format", FORMATS)
def test_flipped_bytes_raise_nothing_of_others(format: str) -> None:
    random = np.random.default_rng(7)
    for _ in range(40):
        data = np.frombuffer(sample(format), np.uint8).copy()
        places = random.integers(0, len(data), 3)
        data[places] = random.integers(0, 256, 3)
        try:
            picture = decode(data.tobytes())
        except ImpastoError:
            continue
        assert picture.rgb.shape[2] == 3


@pytest.mark.parametrize(
    "error",
    [
        OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, struct.error, zlib.error,
        MemoryError, RecursionError, ZeroDivisionError, OverflowError, Image.DecompressionBombError,
    ],
)  # fmt: skip
def test_whatever_pillow_raises_is_a_bad_picture(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error("deep inside")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(BadPicture) as caught:
        decode(sample("PNG"))
    assert "deep inside" not in caught.value.message


def test_pillow_warns_nobody() -> None:
    data = png(slope(), 2, chunk(b"acTL", bytes(8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert far(decode(data).rgb, slope()) == 0
    with pytest.warns(UserWarning, match="Invalid APNG"):  # the file does make Pillow warn
        Image.open(io.BytesIO(data)).load()


# --- scans of a JPEG ------------------------------------------------------------------------------


def test_jpeg_of_1000_scans_is_refused() -> None:
    data = saved(slope(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    decode(data[:-2] + b"\xff\xd9")
    with pytest.raises(BadPicture, match="over 64 scans"):
        decode(data[:-2] + scan * 1000 + b"\xff\xd9")


def test_64_scans_are_taken() -> None:
    data = saved(slope(), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    missing = 64 - data.count(b"\xff\xda")
    with pytest.raises(BadPicture, match="scans"):
        decode(data[:-2] + scan * (missing + 1) + b"\xff\xd9")
    try:
        decode(data[:-2] + scan * missing + b"\xff\xd9")
    except BadPicture as error:  # libjpeg may refuse a refinement done twice, but not for the count
        assert "scans" not in error.message


def test_scan_markers_that_are_chance_do_not_count() -> None:
    """In a comment, and after the end, where phones put a video."""
    data = saved(slope(), "JPEG", comment=b"\xff\xda\0\2" * 100) + b"\xff\xda\0\2" * 100
    assert far(decode(data).rgb, slope()) <= 4


# --- out ------------------------------------------------------------------------------------------


def test_encode_png_is_exact() -> None:
    rgba = np.dstack([slope(), slope()[..., 0] | 1])
    picture = decode(encode(Picture(rgba[..., :3], rgba[..., 3]), "png"))
    assert far(picture.rgb, slope()) == 0
    assert picture.alpha is not None and far(picture.alpha, rgba[..., 3]) == 0


@pytest.mark.parametrize(("format", "near"), [("jpeg", 8), ("webp", 24)])
def test_encode_lossy_is_near(format: Any, near: int) -> None:
    assert far(decode(encode(Picture(slope()), format)).rgb, slope()) <= near


def test_encode_jpeg_composites_on_white() -> None:
    alpha = np.zeros((32, 32), np.uint8)
    alpha[:, 16:] = 128
    picture = decode(encode(Picture(np.zeros((32, 32, 3), np.uint8), alpha), "jpeg"))
    assert far(picture.rgb[:, :16], np.full((32, 16, 3), 255, np.uint8)) <= 3
    assert far(picture.rgb[:, 16:], np.full((32, 16, 3), 127, np.uint8)) <= 3
    assert picture.alpha is None


def test_encode_webp_keeps_alpha() -> None:
    alpha = np.full((32, 48), 128, np.uint8)
    decoded = decode(encode(Picture(slope(), alpha), "webp")).alpha
    assert decoded is not None and far(decoded, alpha) == 0


def test_encode_jpeg_keeps_full_colour_resolution() -> None:
    with Image.open(io.BytesIO(encode(Picture(slope()), "jpeg"))) as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_media_types_are_what_pillow_finds(format: Any) -> None:
    with Image.open(io.BytesIO(encode(Picture(slope()), format))) as image:
        assert image.get_format_mimetype() == MEDIA_TYPES[format]


def test_encode_refuses_what_it_cannot_write() -> None:
    with pytest.raises(BadParameter, match="png, jpeg, webp"):
        encode(Picture(slope()), "tiff")  # type: ignore[arg-type]
    with pytest.raises(BadParameter, match="16,383 pixels a side") as caught:
        encode(Picture(np.zeros((16, 16_384, 3), np.uint8)), "webp")
    assert caught.value.extra == {"limit": 16_383, "actual": 16_384}


@pytest.mark.parametrize("written", MEDIA_TYPES)
@pytest.mark.parametrize("read", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_nothing_but_pixels_goes_out(read: str, written: Any) -> None:
    data = planted(read)
    assert data.count(b"SECRET") >= 2
    out = encode(decode(data), written)
    with Image.open(io.BytesIO(out)) as image:
        image.load()
        assert not {"exif", "icc_profile", "xmp", "comment", "Comment"} & {str(key) for key in image.info}
    for mark in (b"SECRET", b"Exif", b"ICC", b"iCCP", b"XMP", b"tEXt"):
        assert mark not in out


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "max_side", "fitted"),
    [
        ((3000, 4000), 1000, (750, 1000)),
        ((4000, 3000), 1000, (1000, 750)),
        ((100, 50), 1000, (100, 50)),  # never enlarged
        ((1000, 1), 100, (100, 1)),  # at least one pixel
        ((3, 1000), 500, (2, 500)),
        ((338, 512), 256, (169, 256)),
    ],
)
def test_fit(size: tuple[int, int], max_side: int, fitted: tuple[int, int]) -> None:
    assert fit(*size, max_side) == fitted


def test_resize_keeps_a_constant_and_a_slope() -> None:
    flat = np.full((64, 48, 3), 77, np.uint8)
    assert far(resize(flat, 16, 20), np.full((16, 20, 3), 77, np.uint8)) == 0
    ramp = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None], 32, axis=0)  # (32, 64)
    halved = resize(ramp, 16, 32)
    assert halved.shape == (16, 32)
    assert far(halved[:, 4:-4], np.repeat(np.arange(2, 256, 8)[None, 4:-4], 16, axis=0).astype(np.uint8)) <= 1


def test_resize_to_the_same_size_is_a_copy() -> None:
    array = slope()
    same = resize(array, 32, 48)
    assert far(same, array) == 0 and not np.shares_memory(same, array)
