"""Colours to sRGB: by an ICC profile, or by the numbers that HEIC, AVIF and PNG files have instead of one."""

import io
import re
import struct
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from impasto.core.errors import UnsupportedFormat

PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC colour space -> Pillow's mode
CICP = {  # where Pillow passes it over: primaries and transfer, in a PNG's chunk and in an AVIF's box
    "PNG": re.compile(rb"\x00\x00\x00\x04cICP(.)(.)", re.DOTALL),
    "AVIF": re.compile(rb"colrnclx\x00(.)\x00(.)", re.DOTALL),
}
UNSPECIFIED = 2
D65 = (0.3127, 0.3290)
SRGB = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, *D65)
"""x and y of red, green, blue and white."""
PRIMARIES = {  # of ITU-T H.273, table 2
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *D65),  # BT.601, 625 lines
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65),  # BT.601, 525 lines
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *D65),  # BT.2020
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),  # DCI-P3
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *D65),  # Display P3
}
GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
"""Transfer of table 3 -> gamma. All others are read by sRGB's curve; browsers do so for video's (1, 6, 14, 15)."""
HDR = {16: "PQ", 18: "HLG"}
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D50 = np.array([0.9642, 1.0, 0.8249])
SRGB_NUMBERS = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
SRGB_CURVE = struct.pack(">4s4xH2x5i", b"para", 3, *(round(65536 * number) for number in SRGB_NUMBERS))
"""As an ICC tag."""


def to_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """L, RGB or CMYK -> RGB in sRGB. A profile that is broken, or for other channels, is as none."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            mode = PROFILE_MODES[source.profile.xcolor_space]
            if (image.mode, mode) == ("L", "RGB"):  # grey saved with the profile of the screen is common
                image = in_mode(image, mode)
            transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
            if image.mode == mode and not (mode == "RGB" and _changes_nothing(transform)):
                return transform.apply(image)
        except MemoryError:
            raise
        except Exception:
            pass
    return in_mode(image, "RGB")


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """`convert`, which would copy where there is nothing to convert."""
    return image if image.mode == mode else image.convert(mode)


def profile_by_numbers(image: Image.Image, data: bytes) -> bytes | None:
    """Make an ICC profile for an image that says by numbers what its colours are. None where they are sRGB, or where it
    has a profile of its own.

    Numbers are the code points of H.273 (CICP, nclx), or a PNG's gAMA and cHRM; the first has precedence. Raises
    UnsupportedFormat for HDR, whose brightness no number of sRGB says.
    """
    primaries, transfer = _code_points(image, data)
    if name := HDR.get(transfer):
        raise UnsupportedFormat(f"The picture is HDR ({name}), which is not read here: export it as SDR, as JPEG.")
    told = (primaries, transfer) != (UNSPECIFIED, UNSPECIFIED)
    if image.format == "PNG" and not told and "srgb" not in image.info and "icc_profile" not in image.info:
        return _of_png(image.info.get("gamma"), image.info.get("chromaticity"))
    if "icc_profile" in image.info and image.format != "PNG":
        return None
    chromaticities, gamma = PRIMARIES.get(primaries, SRGB), GAMMAS.get(transfer)
    return None if (chromaticities, gamma) == (SRGB, None) else _profile(chromaticities, gamma)


def _code_points(image: Image.Image, data: bytes) -> tuple[int, int]:
    """Primaries and transfer."""
    if nclx := image.info.get("nclx_profile"):  # pillow-heif's
        return int(nclx["color_primaries"]), int(nclx["transfer_characteristics"])
    if not (form := CICP.get(image.format or "")):
        return UNSPECIFIED, UNSPECIFIED
    found = form.search(data, 0, data.find(b"IDAT") if image.format == "PNG" else len(data))
    return (found[1][0], found[2][0]) if found else (UNSPECIFIED, UNSPECIFIED)


def _of_png(gamma: float | None, chromaticity: tuple[float, ...] | None) -> bytes | None:
    """A PNG's own numbers; chromaticities without a gamma say nothing, as in browsers."""
    if not gamma:
        return None
    white, primaries = (chromaticity or (*SRGB[6:], *SRGB[:6]))[:2], (chromaticity or (*D65, *SRGB[:6]))[2:]
    curve = None if abs(gamma - 0.45455) < 0.01 else 1 / gamma  # sRGB's curve is written as 1 / 2.2
    told = (*primaries, *white)
    if curve is None and np.allclose(told, SRGB, atol=0.002):
        return None
    return _profile(told, curve)


def _profile(chromaticities: tuple[float, ...], gamma: float | None) -> bytes:
    """An ICC profile, version 4, of these primaries and white; sRGB's curve where `gamma` is None."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in np.reshape(chromaticities, (4, 2))])
    white = xyz[3]
    columns = xyz[:3].T * np.linalg.solve(xyz[:3].T, white)  # red, green and blue add up to white
    adapted = np.linalg.solve(BRADFORD, np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD) @ columns
    curve = SRGB_CURVE if gamma is None else struct.pack(">4s4xH2xi", b"para", 0, round(65536 * gamma))
    tags = {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), adapted.T, strict=True)}
    tags |= {b"wtpt": _xyz(D50), **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)}
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table, body = table + struct.pack(">4sII", name, start + len(body), len(value)), body + value
    head = struct.pack(">I4xI4s4s4s12x4s28x", start + len(body), 0x04200000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return head + _xyz(D50)[8:] + bytes(48) + table + body


def _xyz(values: Any) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(round(65536 * value) for value in values))


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether the profile is sRGB by what it does to 729 colours: names differ, and lie."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    moved = np.asarray(transform.apply(Image.fromarray(colours)))
    return bool(np.abs(moved.astype(int) - colours).max() <= 1)
