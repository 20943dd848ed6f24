"""The picture of a style, with the hash of its file."""

from dataclasses import dataclass
from pathlib import Path

from impasto.core.files import file_sha256
from impasto.core.pictures.codec import Bytes, read_picture


@dataclass(frozen=True, eq=False)
class StyleImage:
    """A style's picture: uint8 RGB (H, W, 3), and the SHA-256 of its file."""

    rgb: Bytes
    sha256: str


def read_style_image(path: Path) -> StyleImage:
    """Read the picture at `path`. Raises what `read_picture` raises."""
    return StyleImage(read_picture(path).rgb, file_sha256(path))
