"""Names of networks, datasets, styles and VGG16's layers; and the nearest to a name that is unknown.

Imports no torch, so that a look-up takes a moment.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints

from impasto.core.errors import BadParameter, NotFound

NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
MODEL = r"^[a-z0-9]+(/[a-z0-9][a-z0-9_-]{0,63}){2}$"
"""A model's whole name: ARCH/DATASET/STYLE."""
Name = Annotated[str, StringConstraints(pattern=NAME)]

Arch = Literal["aonet", "vgg16"]
Upsample = Literal["nearest", "deconv"]
Device = Literal["auto", "cpu", "cuda"]

STRIDES = {"aonet": 4, "vgg16": 8}
"""The sides of a picture are padded to multiples of this, by network."""
MIN_SIDE = 16  # pixels: the smallest picture that the networks paint

STYLES = ("rain_princess", "the_scream", "the_shipwreck", "udnie", "wave")

CHANNELS = {
    f"relu{block}_{i}": width
    for block, (depth, width) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], start=1)
    for i in range(1, depth + 1)
}
"""VGG16's layers, relu1_1 to relu5_3 in the order of computation -> channels."""


def padding(height: int, width: int, stride: int) -> tuple[int, int]:
    """Rows and columns to add for multiples of `stride`, three times that at least: of a map with a side of two
    InstanceNorm enlarges the rounding errors. Raises BadParameter for a side under 16 px.
    """
    if min(height, width) < MIN_SIDE:
        raise BadParameter(f"The picture is {width}x{height}: the networks paint from {MIN_SIDE} px a side.")
    return max(-height % stride, 3 * stride - height), max(-width % stride, 3 * stride - width)


def is_name(text: str) -> bool:
    return re.fullmatch(NAME, text) is not None


def unknown(what: str, name: str, known: Iterable[str], advice: str = "") -> NotFound:
    """The error for a name that is none: says which there are and which is nearest."""
    names, given = list(known), name
    name = name.lower()
    styles = {style_of(each) for each in names}
    if style_of(name) != "*":
        styles = set(get_close_matches(style_of(name), styles, cutoff=0.4))
    nearest = get_close_matches(name, [each for each in names if style_of(each) in styles], n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    return NotFound(
        f"There is no {what} {given[:80]!r}.{hint} There are: {', '.join(names) or 'none'}.{advice}",
        known=names,
        nearest=nearest[0] if nearest else None,
    )


def style_of(name: str) -> str:
    """The last part of a model's name, without network and dataset, which many share; any other name as it is."""
    return name.rpartition("/")[2]


def check_layer(name: str) -> str:
    """The name itself; raises NotFound, with the nearest name, where VGG16 has no such layer."""
    if name not in CHANNELS:
        raise unknown("VGG16 layer", name, CHANNELS)
    return name


def _valid_layer(name: str) -> str:
    try:
        return check_layer(name)
    except NotFound as error:
        raise ValueError(error.message) from error  # which pydantic understands


Layer = Annotated[str, AfterValidator(_valid_layer)]
