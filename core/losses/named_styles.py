"""The styles that are kept by name: which there are, and what each of them holds for.

Imports no torch, so that a look-up takes a moment. `core.losses.gram_files` reads the Gram matrices.
"""

from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from impasto.core.errors import BadCheckpoint, BadParameter
from impasto.core.names import unknown

SUFFIX = ".safetensors"


def kept_styles(folder: Path) -> dict[str, Path]:
    """The styles in `folder`, by name."""
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find_kept(
    folder: Path, style: str, size: int, scales: int, layers: Iterable[str], loss_network: str | None
) -> Path:
    """The file of a style that holds for `size` px, so many scales, these layers and a loss network whose hash begins
    so (None: any).

    Raises NotFound, with the styles there are, for one that is not kept; BadParameter where it was made for another
    size, other layers or another loss network; BadCheckpoint for a file that is none of ours.
    """
    kept = kept_styles(folder)
    if style not in kept:
        raise unknown("style", style, kept, " For a style of your own give its picture, as style_image.")
    try:
        with safe_open(kept[style], "numpy") as file:
            metadata, there = file.metadata() or {}, set(file.keys())
        made_size, made_by = int(metadata["size"]), metadata["loss_network_sha256"]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise BadCheckpoint(f"{kept[style]} does not hold a style's Gram matrices: {error}") from error
    wanted = {f"{k}.{layer}" for k in range(scales) for layer in layers}
    if made_size != size or not made_by.startswith(loss_network or "") or not wanted <= there:
        raise BadParameter(
            f"The Gram matrices of {style!r} are kept at {made_size} px, for loss network {made_by[:12]}…, and not for "
            f"{', '.join(sorted(wanted - there)) or 'what was asked'}. Give the style's picture, as style_image."
        )
    return kept[style]
