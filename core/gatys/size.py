"""The size that is optimised of a photograph; needs no torch."""

from impasto.core.errors import BadParameter
from impasto.core.names import MIN_SIDE
from impasto.core.params import GatysParams
from impasto.core.pictures.guard import fit


def optimised(height: int, width: int, params: GatysParams) -> tuple[int, int]:
    """Height and width in px that are optimised of a photograph of that size.

    The long side is `params.size`, never enlarged; a short side stays at 16 px or more, which the loss networks need.
    Raises BadParameter for a photograph under that.
    """
    if min(height, width) < MIN_SIDE:
        raise BadParameter(f"The picture is {width}x{height}: it must have {MIN_SIDE} px a side or more.")
    down, across = (max(side, MIN_SIDE) for side in fit(height, width, params.size))
    return down, across
