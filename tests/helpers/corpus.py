"""Bad pictures: files that want a decoder to crash, to hang, to take all memory, or to be taken for something else.

python -m tests.helpers.corpus <folder>     writes them there
"""

import io
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from tests.helpers.pictures import chunk, display_p3, iccp, oriented, png, sample, saved, slope, slow_picture, tiff

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "HEIF", "AVIF")


class Bad(NamedTuple):
    name: str
    data: bytes
    answer: Literal["refused", "painted", "either"] = "refused"
    """The answer that it deserves; `either` where decoders may differ."""


def corpus() -> Iterator[Bad]:
    yield from cut_short()
    yield from disguised()
    yield from bombs()
    yield from jpegs()
    yield from pngs()
    yield from tiffs()
    yield from others()
    yield from odd_but_good()


def cut_short() -> Iterator[Bad]:
    noise = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    for format in FORMATS:
        data = saved(noise, format)
        for tenth in range(1, 10):
            yield Bad(f"{format} cut at {tenth}0%", data[: len(data) * tenth // 10])
        middle = len(data) // 2
        yield Bad(f"{format} with zeros in its second half", data[:middle] + bytes(len(data) - middle), "either")
        yield Bad(f"{format} with a hole", data[: middle - 40] + data[middle + 40 :], "either")
        yield Bad(f"{format} twice in one file", data + data, "painted")
        yield Bad(f"{format}'s first 12 bytes", data[:12])


def disguised() -> Iterator[Bad]:
    yield Bad("nothing", b"")
    yield Bad("a zero", b"\0")
    yield Bad("a megabyte of zeros", bytes(1_000_000))
    yield Bad("a megabyte of chance", np.random.default_rng(2).bytes(1_000_000))
    texts = {
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(/etc/passwd) (r) file\nshowpage\n",
        "EPS of DOS": b"\xc5\xd0\xd3\xc6" + bytes(26) + b"%!PS-Adobe-3.0",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "SVG with a doctype": b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg>&x;</svg>",
        "billion laughs": b"<?xml version='1.0'?><!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;'>]><svg>&b;</svg>",
        "PDF": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>",
        "MVG": b"push graphic-context\nviewbox 0 0 9 9\nfill 'url(https://example.org/)'\npop graphic-context",
        "MSL": b"<?xml version='1.0'?><image><read filename='/etc/passwd'/></image>",
        "HTML": b"<!doctype html><script>alert(1)</script>",
        "XPM": b'/* XPM */\nstatic char *x[] = {"1 1 1 1"," c red"," "};',
        "PPM": b"P6\n99999 99999\n255\n",
        "PCX": b"\x0a\x05\x01\x08" + bytes(124),
        "PSD": b"8BPS\0\1" + bytes(20),
        "ICO": b"\0\0\1\0\1\0" + bytes(16),
        "FLI": bytes(4) + b"\x11\xaf" + bytes(120),
        "DDS": b"DDS |\0\0\0" + bytes(120),
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
        "MP4": b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(40),
        "WAV": b"RIFF\x24\0\0\0WAVEfmt " + bytes(30),
        "ELF": b"\x7fELF\2\1\1" + bytes(60),
        "pickle": b"\x80\x04\x95\x1d\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
        "gzip": b"\x1f\x8b\x08" + bytes(60),
        "a URL": b"https://example.org/cat.jpg",
        "a path": b"../../../../etc/passwd",
    }
    for name, text in texts.items():
        yield Bad(f"{name} in disguise", text)
    magic = {format: sample(format)[:12] for format in FORMATS}
    for number, format in enumerate(FORMATS):
        other = FORMATS[number - 1]
        yield Bad(f"{format} that begins as {other}", magic[other] + sample(format)[12:])
    yield Bad("PDF before a JPEG", b"%PDF-1.7\n" + sample("JPEG"))
    yield Bad("an empty line before a PNG", b"\n" + sample("PNG"))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.txt", "a" * 1000)
    yield Bad("ZIP after a JPEG", sample("JPEG") + zipped.getvalue(), "painted")
    yield Bad("ZIP after a PNG", sample("PNG") + zipped.getvalue(), "painted")
    yield Bad("PHP after a GIF", sample("GIF") + b"<?php system($_GET['c']); ?>", "painted")
    yield Bad("a script in a GIF's size", b"GIF89a/*" + sample("GIF")[8:] + b"*/=1;alert(1)", "painted")  # 10,799 x 32
    yield Bad("JPEG in PNG's text", png(slope(), 2, chunk(b"tEXt", b"x\0" + sample("JPEG"))), "painted")
    yield Bad("ZIP alone", zipped.getvalue())


def bombs() -> Iterator[Bad]:
    places = {
        "BMP": (b"BM", 18, "<ii"),
        "GIF": (b"GIF8", 6, "<HH"),
        "JPEG": (b"\xff\xc0", 5, ">HH"),
        "HEIF": (b"ispe", 8, ">II"),
        "AVIF": (b"ispe", 8, ">II"),
        "PNG": (b"IHDR", 4, ">II"),
    }
    for format, (mark, offset, code) in places.items():
        for width, height in ((65_500, 65_500), (30_000, 800), (16, 65_000), (0, 0), (8_000, 6_000)):
            data = bytearray(sample(format))
            struct.pack_into(code, data, data.index(mark) + offset, width, height)
            # The last is allowed, with nothing like as many pixels behind it, which some decoders fill up with grey.
            answer: Literal["refused", "either"] = "either" if format in ("HEIF", "AVIF", "GIF", "JPEG") else "refused"
            yield Bad(f"{format} that says {width} x {height}", bytes(data), answer)
    white = zlib.compress(bytes(16_000 * 16_001), 1)
    head = struct.pack(">IIBBBBB", 16_000, 16_000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", white) + chunk(b"IEND", b"")
    yield Bad("PNG of 256 megapixels in 1 MB", b"\x89PNG\r\n\x1a\n" + body)
    yield Bad("PNG of 1 x 100,000", png(np.zeros((16, 16), np.uint8), 0, size=(100_000, 1)))
    yield Bad(
        "WebP of 16,383 x 16,383", b"RIFF\x24\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xfe\x3f\0\xfe\x3f\0" + bytes(20)
    )
    for format in ("AVIF", "HEIF"):
        data = saved(Image.new("RGB", (9000, 6000)), format, quality=10, speed=10)  # 54 megapixels
        for number, size in enumerate(((64, 64), (8999, 1))):
            lie = data
            for place in _all(data, b"ispe"):
                lie = lie[: place + 8] + struct.pack(">II", *size) + lie[place + 16 :]
            yield Bad(
                f"{format} of 54 megapixels that says {size[0]} x {size[1]}", lie, "refused" if number else "either"
            )


def _all(data: bytes, mark: bytes) -> list[int]:
    places, place = [], data.find(mark)
    while place >= 0:
        places.append(place)
        place = data.find(mark, place + 1)
    return places


def jpegs() -> Iterator[Bad]:
    progressive = saved(slope(), "JPEG", progressive=True)
    start = progressive.rindex(b"\xff\xda")
    yield Bad("JPEG of 1,000 scans", progressive[:-2] + progressive[start:-2] * 1000 + b"\xff\xd9")
    slow = slow_picture()
    scan = slow[slow.rindex(b"\xff\xda") : -2]
    yield Bad("JPEG of 1,000 scans and 24 megapixels", slow[:-2] + scan * 1000 + b"\xff\xd9")
    yield Bad("JPEG of 64 scans and 24 megapixels", slow, "either")
    plain = sample("JPEG")
    yield Bad(
        "JPEG of a million empty segments", plain[:2] + b"\xff\xe0\0\2" * 1_000_000 + b"\xff\xda" * 70 + plain[2:]
    )
    for marker in (0xC4, 0xDB, 0xC0, 0xDD, 0xE1, 0xE2, 0xED, 0xEE, 0xFE):
        broken = bytes([0xFF, marker, 0xFF, 0xFF])
        yield Bad(f"JPEG whose segment {marker:x} has no end", plain[:2] + broken + plain[2:], "either")
        yield Bad(
            f"JPEG with an empty segment {marker:x}", plain[:2] + bytes([0xFF, marker, 0, 2]) + plain[2:], "either"
        )
    yield Bad("JPEG without Huffman tables", _without(plain, 0xC4), "either")
    yield Bad("JPEG without quantisation tables", _without(plain, 0xDB), "refused")
    yield Bad("JPEG of 12 bits", _patched(plain, b"\xff\xc0", 4, b"\x0c"))
    yield Bad("JPEG, arithmetic", _patched(plain, b"\xff\xc0", 1, b"\xc9"), "either")
    yield Bad("JPEG, lossless", _patched(plain, b"\xff\xc0", 1, b"\xc3"))
    yield Bad("JPEG of 9 components", _patched(plain, b"\xff\xc0", 9, b"\x09"))
    yield Bad("JPEG with a sampling of 15 x 15", _patched(plain, b"\xff\xc0", 11, b"\xff"), "either")
    mpo = io.BytesIO()
    Image.fromarray(slope()).save(mpo, "MPO", save_all=True, append_images=[Image.fromarray(slope())] * 3)
    yield Bad("MPO of 4 pictures", mpo.getvalue(), "painted")


def _without(jpeg: bytes, marker: int) -> bytes:
    while (place := jpeg.find(bytes([0xFF, marker]))) >= 0:
        jpeg = jpeg[:place] + jpeg[place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big") :]
    return jpeg


def _patched(data: bytes, mark: bytes, offset: int, patch: bytes) -> bytes:
    place = data.index(mark) + offset
    return data[:place] + patch + data[place + len(patch) :]


def pngs() -> Iterator[Bad]:
    megabytes = zlib.compress(bytes(100_000_000), 9)
    for kind, head in ((b"zTXt", b"x\0\0"), (b"iTXt", b"x\0\1\0\0\0"), (b"iCCP", b"x\0\0")):
        bomb = chunk(kind, head + megabytes)
        yield Bad(f"PNG with 100 MB in {kind.decode()}", png(slope(), 2, bomb), "either")
        yield Bad(f"PNG with 1 GB in ten of {kind.decode()}", png(slope(), 2, *[bomb] * 10), "either")
    yield Bad("PNG with 10 MB of text", png(slope(), 2, chunk(b"tEXt", b"x\0" + b"y" * 10_000_000)), "either")
    yield Bad("PNG of 400,000 chunks", png(slope(), 2, chunk(b"tEXt", b"x\0y") * 400_000))
    yield Bad("PNG whose chunk has no end", png(slope(), 2, struct.pack(">I", 2**31 - 1) + b"tEXt"))
    yield Bad("PNG with a wrong checksum", _patched(sample("PNG"), b"IDAT", -2, b"\x7f"), "either")
    yield Bad("PNG without pixels", png(np.zeros((0, 16), np.uint8), 0, size=(16, 16)))
    yield Bad("PNG with pixels without end", png(np.zeros((9000, 2000), np.uint8), 0, size=(16, 2000)), "either")
    for kind in (1, 5, 7, 255):
        yield Bad(
            f"PNG of colour type {kind}", png(slope()[..., 0], 0).replace(b"\x08\0\0\0\0", bytes([8, kind, 0, 0, 0]), 1)
        )
    yield Bad("PNG of 3 bits", _patched(sample("PNG"), b"IHDR", 12, b"\x03"))
    palette = chunk(b"PLTE", bytes(3 * 256 * 40))
    yield Bad("PNG with a huge palette", png(slope()[..., 0], 3, palette), "either")
    yield Bad(
        "PNG with a palette of 2 colours and 256 in use", png(slope()[..., 0], 3, chunk(b"PLTE", bytes(6))), "either"
    )
    yield Bad("PNG with no palette", png(slope()[..., 0], 3), "either")
    yield Bad("PNG with a filter that is none", png(slope(), 2).replace(*_filter(slope())), "refused")
    yield Bad("APNG of a billion frames", png(slope(), 2, chunk(b"acTL", struct.pack(">II", 10**9, 0))), "either")
    for name, profile in (("short", b"\0" * 10), ("of lies", display_p3()[:128] + b"\xff" * 400), ("empty", b"")):
        yield Bad(f"PNG with a profile {name}", png(slope(), 2, iccp(profile)), "painted")
    yield Bad("PNG with EXIF that is none", png(slope(), 2, chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff")), "painted")


def _filter(rgb: np.ndarray) -> tuple[bytes, bytes]:
    """The pixels of a PNG, and the same with row filters that do not exist."""
    rows = b"".join(b"\0" + row.tobytes() for row in rgb)
    wrong = b"".join(b"\x09" + row.tobytes() for row in rgb)
    return chunk(b"IDAT", zlib.compress(rows)), chunk(b"IDAT", zlib.compress(wrong))


def tiffs() -> Iterator[Bad]:
    pixels = bytes(range(256))
    lies: dict[str, dict[str, int]] = {
        "a strip beyond the end": {"t273": 10**9},
        "a strip of 4 GB": {"t279": 2**32 - 1},
        "a strip of no bytes": {"t279": 0},
        "rows that are more than a strip's": {"t278": 2**32 - 1},
        "no rows in a strip": {"t278": 0},
        "tiles of 4 billion pixels": {"t322": 65_536, "t323": 65_536, "t324": 8, "t325": 256},
        "tiles of nothing": {"t322": 0, "t323": 0, "t324": 8, "t325": 256},
        "tiles beyond the end": {"t322": 16, "t323": 16, "t324": 10**9, "t325": 256},
        "65,535 samples": {"t277": 65_535},
        "a compression that is none": {"t259": 60_000},
        "LZW that is none": {"t259": 5},
        "JPEG that is none": {"t259": 7},
        "deflate that is none": {"t259": 8},
        "LZMA that is none": {"t259": 34_925},
        "zstd that is none": {"t259": 50_000},
        "fax that is none": {"t259": 4},
        "a width of 4 billion": {"t256": 2**32 - 1},
        "8,000 x 2,900 and 256 bytes": {"t256": 8000, "t257": 2900},
        "a photometric that is none": {"t262": 99},
        "planes that are none": {"t284": 99},
    }
    for name, tags in lies.items():
        answer: Literal["refused", "either"] = (
            "either" if name.startswith(("rows", "planes", "a strip of", "tiles beyond")) else "refused"
        )
        yield Bad(f"TIFF with {name}", _tiff(pixels, tags), answer)
    yield Bad("TIFF whose directory is its own next", _loop(pixels), "either")
    yield Bad("TIFF of 65,535 tags", b"II*\0" + struct.pack("<IH", 8, 65_535) + b"\0\1\4\0\1\0\0\0\1\0\0\0" * 1000)
    yield Bad("TIFF whose directory is beyond the end", b"II*\0\xff\xff\xff\x7f" + bytes(100))
    yield Bad("BigTIFF of nothing", b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + bytes(50))
    yield Bad("TIFF of 1 bit and 1 x 16", tiff(pixels, 1, t256=1))
    deflated = saved(Image.new("L", (8192, 6000)), "TIFF", compression="tiff_adobe_deflate")
    yield Bad("TIFF of 49 megapixels in 50 kB", deflated, "painted")


def _tiff(pixels: bytes, tags: dict[str, int]) -> bytes:
    """`tiff`, whose place of the strip can be a lie, too."""
    data = tiff(pixels, 8, **tags)
    if "t273" in tags:
        entry = data.index(struct.pack("<HHI", 273, 4, 1)) + 8
        data = data[:entry] + struct.pack("<I", tags["t273"]) + data[entry + 4 :]
    return data


def _loop(pixels: bytes) -> bytes:
    data = tiff(pixels, 8)
    (count,) = struct.unpack_from("<H", data, 8)
    end = 10 + 12 * count
    return data[:end] + struct.pack("<I", 8) + data[end + 4 :]


def others() -> Iterator[Bad]:
    gif = sample("GIF")
    yield Bad(
        "GIF with a giant screen and a small picture",
        _patched(gif, b"GIF8", 6, struct.pack("<HH", 4800, 4800)),
        "either",
    )
    yield Bad(
        "GIF whose picture lies outside its screen", _patched(gif, b"GIF8", 6, struct.pack("<HH", 16, 16)), "either"
    )
    yield Bad("GIF with a code size of 255", _patched(gif, b"\x2c\0\0\0\0", 10, b"\xff"), "either")
    yield Bad("GIF without an end", gif[:-1] + b"\x21\xfe\xff" * 1000, "either")
    yield Bad(
        "GIF with 10 MB of comments",
        gif[:13] + gif[13:-1] + b"\x21\xfe" + (b"\xff" + b"a" * 255) * 40_000 + b"\0;",
        "either",
    )
    bmp = sample("BMP")
    for name, offset, patch in (
        ("planes", 26, b"\xff\xff"),
        ("bits", 28, b"\x63\0"),
        ("compression", 30, b"\x63\0\0\0"),
        ("pixels beyond the end", 10, b"\xff\xff\xff\x7f"),
        ("a header of 4 GB", 14, b"\xff\xff\xff\xff"),
        ("a negative height", 22, struct.pack("<i", -(2**31))),
        ("4 billion colours", 46, b"\xff\xff\xff\xff"),
        ("run lengths", 30, b"\x01\0\0\0"),
        ("bit fields", 30, b"\x03\0\0\0"),
    ):
        yield Bad(f"BMP with {name}", bmp[:offset] + patch + bmp[offset + len(patch) :], "either")
    webp = sample("WEBP")
    yield Bad("WebP of 4 GB", webp[:4] + b"\xff\xff\xff\xff" + webp[8:], "either")
    yield Bad("WebP with a chunk of 4 GB", webp[:16] + b"\xff\xff\xff\xff" + webp[20:])
    yield Bad("WebP with Huffman codes of chance", webp[:30] + np.random.default_rng(3).bytes(len(webp) - 30), "either")
    for format in ("HEIF", "AVIF"):
        data = sample(format)
        for box in (b"meta", b"iloc", b"iinf", b"iprp", b"ipco", b"ipma", b"mdat", b"pitm"):
            if box in data:
                yield Bad(
                    f"{format} whose {box.decode()} is 4 GB", _patched(data, box, -4, b"\xff\xff\xff\xff"), "either"
                )
                yield Bad(f"{format} without {box.decode()}", data.replace(box, b"free"), "either")
    boxes = b"\0\0\0\x14ispe\0\0\0\0\0\0\0\x10\0\0\0\x10" * 500_000
    yield Bad("HEIF of 500,000 boxes", sample("HEIF") + boxes, "either")
    nested = b"".join(struct.pack(">I", 8 * (20_000 - depth)) + b"meta" for depth in range(20_000))
    yield Bad("HEIF of boxes in boxes", sample("HEIF")[:32] + nested)
    small = {
        "1 x 1": (1, 1),
        "1 x 5,000": (1, 5000),
        "5,000 x 1": (5000, 1),
        "15 x 15": (15, 15),
        "16,384 x 16": (16_384, 16),
    }
    for name, size in small.items():
        yield Bad(f"PNG of {name}", saved(Image.new("RGB", size), "PNG"))
        yield Bad(f"GIF of {name}", saved(Image.new("P", size), "GIF"))


def odd_but_good() -> Iterator[Bad]:
    """Files that look bad and are to be painted all the same."""
    frames = [Image.new("RGB", (32, 32), name) for name in ("red", "blue", "lime")]
    for format in ("GIF", "PNG", "WEBP", "TIFF"):
        yield Bad(f"{format} that moves", saved(frames[0], format, save_all=True, append_images=frames[1:]), "painted")
    many = [Image.new("P", (32, 32), number % 256) for number in range(2000)]
    yield Bad("GIF of 2,000 frames", saved(many[0], "GIF", save_all=True, append_images=many[1:]), "painted")
    grey = slope()[..., 0]
    yield Bad("PNG of 16 bits", png(grey.astype(np.uint16) * 257, 0), "painted")
    yield Bad("PNG of 16 bits in colour", png(slope().astype(np.uint16) * 257, 2), "painted")
    yield Bad("CMYK", saved(Image.new("CMYK", (32, 32), (9, 99, 199, 0)), "JPEG"), "painted")
    yield Bad("TIFF of floats", saved(Image.fromarray(grey.astype(np.float32)), "TIFF"), "painted")
    yield Bad("JPEG in grey", saved(grey, "JPEG"), "painted")
    yield Bad("JPEG with a wrong orientation", saved(slope(), "JPEG", exif=oriented(99)), "painted")
    yield Bad("JPEG with EXIF that is none", saved(slope(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), "painted")
    yield Bad(
        "JPEG with a profile of lies", saved(slope(), "JPEG", icc_profile=display_p3()[:150] + b"\xff" * 99), "painted"
    )
    text = PngImagePlugin.PngInfo()
    for number in range(100):
        text.add_text(f"key{number}", "value" * 100)
    yield Bad("PNG with a hundred texts", saved(slope(), "PNG", pnginfo=text), "painted")
    exif = Image.Exif()
    exif[ExifTags.Base.MakerNote] = b"m" * 60_000
    yield Bad("JPEG with 60 kB of maker's notes", saved(slope(), "JPEG", exif=exif), "painted")
    yield Bad("GIF of 8,000 x 16", saved(Image.new("P", (8000, 16)), "GIF"), "painted")
    yield Bad("PNG of 16 x 16,383", saved(Image.new("L", (16, 16_383)), "PNG"), "painted")


if __name__ == "__main__":
    for number, bad in enumerate(corpus()):
        (Path(sys.argv[1]) / f"{number:03d}").write_bytes(bad.data)
