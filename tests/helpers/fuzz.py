"""Mutations of good files, the same for the same seed."""

import random
from collections.abc import Iterator

from tests.helpers.pictures import FORMATS, display_p3, oriented, sample, saved, slope

INTERESTING = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\1",
    b"\xff\xd9",
)


def good_files() -> list[bytes]:
    """One of each format, and some with more in them."""
    return [
        *map(sample, FORMATS),
        saved(slope(), "JPEG", progressive=True, exif=oriented(6), icc_profile=display_p3()),
        saved(slope(), "PNG", exif=oriented(3), icc_profile=display_p3()),
        saved(slope(), "WEBP", lossless=False),
        saved(slope(), "TIFF", compression="tiff_adobe_deflate"),
        saved(slope(), "TIFF", compression="jpeg"),
        saved(slope()[..., 0], "PNG"),
    ]


def mutations(seed: int, count: int) -> Iterator[bytes]:
    chance, files = random.Random(seed), good_files()
    for number in range(count):
        data = bytearray(files[number % len(files)])
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8, 30))):
            _mutate(data, files, chance)
        yield bytes(data)


def _mutate(data: bytearray, files: list[bytes], chance: random.Random) -> None:
    # Half of all changes are near the front, where headers are: few of the others would get past a decoder's tables.
    end = len(data) if chance.random() < 0.5 else min(len(data), 200)
    place = chance.randrange(max(1, end))
    length = chance.choice((1, 2, 4, 16, 100, 1000))
    kind = chance.randrange(7)
    if kind == 0:
        data[place : place + 1] = bytes([(data[place] if place < len(data) else 0) ^ 1 << chance.randrange(8)])
    elif kind == 1:
        data[place : place + 1] = chance.randbytes(1)
    elif kind == 2:
        value = chance.choice(INTERESTING)
        data[place : place + len(value)] = value
    elif kind == 3:
        del data[place : place + length]
    elif kind == 4:
        data[place:place] = data[place : place + length]
    elif kind == 5:
        other = chance.choice(files)
        start = chance.randrange(len(other))
        data[place : place + length] = other[start : start + length]
    else:
        data[place:place] = chance.randbytes(length)
