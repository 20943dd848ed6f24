"""Names of models, of networks and of VGG16's layers; the facts of each network; the nearest to an unknown name.

Imports no torch, so that a look-up takes a moment.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints

from impasto.core.errors import BadParameter, NotFound

NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
MODEL = r"^[a-z0-9]+(/[a-z0-9][a-z0-9_-]{0,63}){2}$"
"""The whole name of a model: ARCH/DATASET/STYLE."""
Name = Annotated[str, StringConstraints(pattern=NAME)]

Arch = Literal["aonet", "vgg16"]
Upsample = Literal["nearest", "deconv"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Architecture:
    """The facts of a painting network that are known without loading it."""

    description: str
    stride: int
    """The sides of a picture are padded to multiples of this."""
    scale: int
    """A network sees a picture at most this many times as large as it is."""
    memory: int
    """Bytes for each pixel that the network sees, measured in float32 at 3 megapixels."""
    pace: float
    """Seconds for each pixel that the network sees, relative to AONet."""


ARCHES: dict[str, Architecture] = {
    "aonet": Architecture("small and fast, 1.68 M parameters", stride=4, scale=1, memory=320, pace=1.0),
    # It paints from an eighth of the size: of 500 px it melts faces and lettering, of 1000 px and shrunk again it keeps
    # them.
    "vgg16": Architecture("larger and slower, around VGG16's encoder", stride=8, scale=2, memory=560, pace=2.3),
}
"""The painting networks by name: those of `Arch`."""

NETWORKS = "; ".join(f"{name}, {facts.description}" for name, facts in ARCHES.items())
"""The networks and their descriptions, for help texts."""

MIN_SIDE = 16  # pixels: the smallest picture that the networks paint

CHANNELS = {
    f"relu{block}_{i}": width
    for block, (depth, width) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], start=1)
    for i in range(1, depth + 1)
}
"""VGG16's layers, relu1_1 to relu5_3 in the order of computation -> channels."""


def padding(height: int, width: int, stride: int) -> tuple[int, int]:
    """Rows and columns that pad a picture to multiples of `stride`, and to three times `stride` at least.

    On smaller maps InstanceNorm enlarges rounding errors. Raises BadParameter for a side under 16 px.
    """
    if min(height, width) < MIN_SIDE:
        raise BadParameter(f"The picture is {width}x{height}. A side must have {MIN_SIDE} px or more.")
    return max(-height % stride, 3 * stride - height), max(-width % stride, 3 * stride - width)


def is_name(text: str) -> bool:
    return re.fullmatch(NAME, text) is not None


def check_name(text: str, what: str) -> None:
    """Raises BadParameter for text that is not a name. `what` has one: `style`, `key`."""
    if not is_name(text):
        raise BadParameter(
            f"{text[:80]!r} is not a name for a {what}. Use a-z, 0-9, _ and -, at most 64 characters, and begin with a "
            "letter or digit."
        )


def unknown(what: str, name: str, known: Iterable[str], advice: str = "") -> NotFound:
    """The error for an unknown name, with the known names and the nearest, whatever its capitals."""
    names, given = list(known), name
    name = name.lower()
    styles = {style_of(each) for each in names}
    if style_of(name) != "*":
        styles = set(get_close_matches(style_of(name), styles, cutoff=0.4))
    nearest = get_close_matches(name, [each for each in names if style_of(each) in styles], n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return NotFound(
        f"{given[:80]!r} is not a {what}.{hint} Known: {', '.join(names) or 'none'}.{advice}",
        known=names,
        nearest=nearest[0] if nearest else None,
    )


def style_of(name: str) -> str:
    """The last part of a model's name, as many share network and dataset; any other name as it is."""
    return name.rpartition("/")[2]


def check_layer(name: str) -> str:
    """Return the name. Raises NotFound, with the nearest name, where VGG16 has no such layer."""
    if name not in CHANNELS:
        raise unknown("VGG16 layer", name, CHANNELS)
    return name


def _valid_layer(name: str) -> str:
    try:
        return check_layer(name)
    except NotFound as error:
        raise ValueError(error.message) from error  # which pydantic understands


Layer = Annotated[str, AfterValidator(_valid_layer)]
