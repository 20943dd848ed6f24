"""Pictures of 16 to 64 pixels, made here, with answers known on paper; and files that are hard to decode."""

import io
import re
import struct
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin

Bytes = NDArray[np.uint8]
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "TIFF raw": {},
    "WEBP": {"lossless": True, "exact": True},
}
LOSSY: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "HEIF": {"quality": 100},
    "AVIF": {"quality": 100, "speed": 10},
}
FORMATS = [*LOSSLESS, *LOSSY, "GIF"]


def saved(image: Image.Image | Bytes, format: str, **options: Any) -> bytes:
    """The bytes of a file. "TIFF raw" is a TIFF without compression."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, format.split()[0], **{**LOSSLESS.get(format, {}), **LOSSY.get(format, {}), **options})
    return buffer.getvalue()


def slope(height: int = 32, width: int = 48) -> Bytes:
    """Red grows to the right, green downwards, blue is constant: a picture that no turn leaves as it was."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 5, y * 7, np.full_like(x, 60)], axis=-1).astype(np.uint8)


@cache
def sample(format: str) -> bytes:
    return saved(slope(), format)


def far(a: Bytes, b: Bytes) -> int:
    """The largest difference of two arrays, which must have one shape."""
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def colour(values: Sequence[int]) -> Bytes:
    return np.array(values, np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(levels: NDArray[Any], kind: int, *extra: bytes, size: tuple[int, int] | None = None) -> bytes:
    """A PNG of 8 or 16 bits. `kind`: 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA. `size`: a lie."""
    height, width = size or levels.shape[:2]
    bits = 8 * levels.dtype.itemsize
    rows = b"".join(b"\0" + row.tobytes() for row in levels.astype(levels.dtype.newbyteorder(">")))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    tail = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + tail


def tiff(pixels: bytes, bits: int, photometric: int = 1, **more: int) -> bytes:
    """A grey little-endian TIFF of 16 x 16 in one strip. `more`: tags, as t322=..., added or replaced."""
    tags = {256: 16, 257: 16, 258: bits, 259: 1, 262: photometric, 277: 1, 278: 16, 279: len(pixels)}
    tags |= {int(name[1:]): value for name, value in more.items()}
    tags[273] = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0" + pixels


def icc(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 4, from its tags."""
    table, body = struct.pack(">I", len(tags)), b""
    kind, connection = (b"prtr", b"Lab ") if space == b"CMYK" else (b"mntr", b"XYZ ")
    for name, data in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = struct.pack(">I4sI", 132 + 12 * len(tags) + len(body), b"", 0x04200000) + kind + space + connection
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)  # D50
    return head.ljust(128, b"\0") + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(65536 * v) for v in values))


def srgb_curve() -> bytes:
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para\0\0\0\0\0\3\0\0" + struct.pack(">iiiii", *(round(65536 * v) for v in numbers))


def display_p3() -> bytes:
    columns = {
        "r": (0.51512, 0.24120, -0.00105),
        "g": (0.29198, 0.69225, 0.04189),
        "b": (0.15710, 0.06657, 0.78407),
    }
    tags = {f"{name}XYZ".encode(): xyz(*column) for name, column in columns.items()}
    tags |= {f"{name}TRC".encode(): srgb_curve() for name in "rgb"}
    return icc(b"RGB ", tags | {b"wtpt": xyz(0.9642, 1, 0.8249)})


def adobe_rgb() -> bytes:
    """Adobe RGB (1998), by the numbers of its specification, adapted to D50."""
    columns = {
        "r": (0.60974, 0.31111, 0.01947),
        "g": (0.20528, 0.62567, 0.06087),
        "b": (0.14919, 0.06322, 0.74457),
    }
    gamma = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * 563 / 256))
    tags = {f"{name}XYZ".encode(): xyz(*column) for name, column in columns.items()}
    return icc(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma) | {b"wtpt": xyz(0.9642, 1, 0.8249)})


def grey_linear() -> bytes:
    return icc(b"GRAY", {b"kTRC": b"curv" + bytes(8), b"wtpt": xyz(0.9642, 1, 0.8249)})


def cmyk_where_cyan_is_grey() -> bytes:
    """Paper is white, black is black, and cyan alone prints as L* = 50: a table of 2 x 2 x 2 x 2."""
    nodes = np.full((2, 2, 2, 2, 3), 128, np.uint8)  # (C, M, Y, K, Lab)
    nodes[..., 0] = 0
    nodes[0, 0, 0, 0, 0] = 255
    nodes[1, 0, 0, 0, 0] = 128
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + bytes(range(256)) * 4 + nodes.tobytes()
    return icc(b"CMYK", {b"A2B0": table + bytes(range(256)) * 3, b"wtpt": xyz(0.9642, 1, 0.8249)})


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"a profile\0\0" + zlib.compress(profile))


def oriented(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = number
    return exif


def planted(format: str) -> bytes:
    """A file with a place, a comment, XMP and a profile in it, each marked SECRET."""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "SECRET description"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = b"SECRET place"
    profile = display_p3() + b"SECRET profile"
    profile = struct.pack(">I", len(profile)) + profile[4:]
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "SECRET comment")
    more: dict[str, Any] = {"pnginfo": text} if format == "PNG" else {"comment": b"SECRET comment"}
    return saved(slope(), format, exif=exif, icc_profile=profile, xmp=b"<x>SECRET xmp</x>", **more)


@cache
def slow_picture() -> bytes:
    """24 megapixels of JPEG in 64 scans: seconds of work, within every limit but that on time."""
    data = saved(Image.new("RGB", (6000, 4000)), "JPEG", progressive=True, quality=30)
    starts = [found.start() for found in re.finditer(b"\xff\xda", data)]
    scan = data[starts[5] : starts[6]]
    return data[: starts[6]] + scan * (64 - len(starts)) + data[starts[6] :]
