"""The size that is optimised of a photograph; needs no torch."""

from impasto.core.errors import BadParameter
from impasto.core.names import MIN_SIDE
from impasto.core.params import GatysParams
from impasto.core.pictures.guard import fit


def optimised(height: int, width: int, params: GatysParams) -> tuple[int, int]:
    """Height and width in px that are optimised, for a photograph of `height` x `width`.

    The long side is `params.size`, or the photograph's own if that is smaller. The short side is 16 px at least, which
    the loss networks need. Raises BadParameter for a photograph with a smaller side.
    """
    if min(height, width) < MIN_SIDE:
        raise BadParameter(f"The picture is {width}x{height}. A side must have {MIN_SIDE} px or more.")
    down, across = (max(side, MIN_SIDE) for side in fit(height, width, params.size))
    return down, across
