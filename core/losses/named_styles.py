"""Named styles: the Gram files in a folder, and what each of them can be used for.

Imports no torch, so that a look-up takes a moment. `core.losses.gram_files` reads the Gram matrices.
"""

from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from impasto.core.errors import BadCheckpoint, BadParameter
from impasto.core.names import unknown

SUFFIX = ".safetensors"


def named_styles(folder: Path) -> dict[str, Path]:
    """The Gram files in `folder`, by the name of the style."""
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find_gram_file(
    folder: Path, style: str, size: int, scales: int, layers: Iterable[str], loss_network: str | None
) -> Path:
    """The Gram file of a style at `size` px, with these scales and layers, for a loss network whose hash begins with
    `loss_network` (None: any).

    Raises NotFound, with the known names and the nearest; BadParameter where the file was made for another size, other
    scales or layers, or another loss network; BadCheckpoint where it is not a Gram file.
    """
    styles = named_styles(folder)
    if style not in styles:
        raise unknown("style", style, styles, " For a style of your own give its picture, as style_image.")
    try:
        with safe_open(styles[style], "numpy") as file:
            metadata, there = file.metadata() or {}, set(file.keys())
        made_size, made_by = int(metadata["size"]), metadata["loss_network_sha256"]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise BadCheckpoint(f"{styles[style]} does not hold a style's Gram matrices: {error}") from error
    wanted = {f"{k}.{layer}" for k in range(scales) for layer in layers}
    if made_size != size or not made_by.startswith(loss_network or "") or not wanted <= there:
        raise BadParameter(
            f"The Gram file of {style!r} is for {made_size} px and loss network {made_by[:12]}…, not for "
            f"{', '.join(sorted(wanted - there)) or _asked(size, loss_network)}. Give the style's picture, as "
            "style_image."
        )
    return styles[style]


def _asked(size: int, loss_network: str | None) -> str:
    return f"{size} px" + (f" and loss network {loss_network[:12]}…" if loss_network else "")
