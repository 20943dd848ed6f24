"""Pictures as phones, cameras and editors write them, made here: cut-outs, raws, other colours, JPEGs of webcams."""

import re
import struct

import numpy as np
from PIL import Image, ImageDraw

from tests.helpers.pictures import Bytes, chunk, png, saved, slope, tiff


def cutout(hidden: tuple[int, int, int], side: int = 96) -> Bytes:
    """An orange disc with a blue stripe, its edge smooth, on transparent pixels of the colour `hidden`: RGBA."""
    alpha = Image.new("L", (4 * side, 4 * side))
    ImageDraw.Draw(alpha).ellipse((side // 2, side // 2, 4 * side - side // 2, 4 * side - side // 2), fill=255)
    opacity = np.array(alpha.resize((side, side), Image.Resampling.BOX))
    rgb = np.full((side, side, 3), (240, 150, 40), np.uint8)
    rgb[:, side // 2 : side // 2 + 8] = (40, 60, 200)
    rgb[opacity == 0] = hidden
    return np.dstack([rgb, opacity])


def without_end(data: bytes) -> bytes:
    """A JPEG as some webcams write it."""
    assert data.endswith(b"\xff\xd9")
    return data[:-2]


def cicp(primaries: int, transfer: int) -> bytes:
    return chunk(b"cICP", bytes([primaries, transfer, 0, 1]))


def gama(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))


def nclx(format: str, rgb: Bytes, primaries: int, transfer: int) -> bytes:
    """A HEIC or AVIF that says by numbers what its colours are."""
    data = saved(rgb, format, **({"save_nclx_profile": True, "color_primaries": 1} if format == "HEIF" else {}))
    told, count = re.subn(rb"(colrnclx)....", rb"\1" + struct.pack(">HH", primaries, transfer), data, flags=re.DOTALL)
    assert count == 1
    return told


def p3_png(rgb: Bytes) -> bytes:
    return png(rgb, 2, cicp(12, 13))


def raws() -> dict[str, bytes]:
    """The beginnings of cameras' files, by what makes each a raw; behind them is a thumbnail that can be decoded."""
    thumbnail = tiff(bytes(range(256)), 8)
    return {
        "NEF, ARW: a thumbnail first": tiff(bytes(256), 8, t254=1),
        "a reduced image of several pages": tiff(bytes(256), 8, t254=3),
        "DNG by its version": tiff(bytes(256), 8, t50706=0x00000401),
        "DNG of a phone": tiff(bytes(256), 8, photometric=34892),
        "a colour filter array": tiff(bytes(256), 8, photometric=32803),
        "NEF, compressed": tiff(bytes(256), 8, t259=34713),
        "CR2": thumbnail[:8] + b"CR\2\0" + thumbnail[8:],
        "CR3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(64),
        "ORF": b"IIRO" + thumbnail[4:],
        "RW2": b"IIU\0" + thumbnail[4:],
        "RAF": b"FUJIFILMCCD-RAW 0201FF" + bytes(64) + saved(slope(), "JPEG"),
    }
