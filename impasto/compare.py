"""`impasto compare`: a photograph by several networks, on one sheet."""

from pathlib import Path

from core.checkpoints import Zoo
from core.compare import compare as make_sheet
from core.engine import open_engine
from core.files import write_bytes
from core.images import decode, encode
from core.recipes import CompareParams
from core.settings import Settings
from impasto.stylize import format_of


def compare(photograph: Path, output: Path, params: CompareParams, settings: Settings) -> None:
    """Write the sheet. Raises what the zoo, decoding and the engine raise."""
    format = format_of(output)
    models = Zoo(settings.models, settings.styles).select(params.arch, params.dataset, params.style)
    picture = decode(photograph.read_bytes(), settings.limits)
    engine = open_engine(settings)
    write_bytes(output, encode(make_sheet(models, engine.painter, picture, params), format))
