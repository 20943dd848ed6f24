"""`impasto compare`: paint a photograph with several networks, on one sheet."""

from pathlib import Path
from typing import Any

import click

from impasto.commands.stylize import format_of
from impasto.core.files import write_bytes
from impasto.core.nets.checkpoints import Zoo
from impasto.core.paint_params import CompareParams
from impasto.core.pictures.codec import encode
from impasto.core.stylize.compare import compare as make_sheet
from impasto.core.stylize.engine import open_engine
from impasto.options import given, options, read_settings, validated
from impasto.pictures import read_own_picture


@click.command()
@click.argument("photograph", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File.  [default: beside PHOTOGRAPH, as NAME-compared.png]"
)
@options(CompareParams, only=[name for name in CompareParams.model_fields if name != "format"])
def compare(photograph: Path, output: Path | None, **flags: Any) -> None:
    """Paint PHOTOGRAPH with every model of a style, a network or a dataset, on one labelled sheet."""
    output = output or photograph.with_name(f"{photograph.stem}-compared.png")
    params, settings = validated(lambda: CompareParams(**given(flags))), read_settings()
    format = format_of(output)
    models = Zoo(settings.models, settings.styles).select(params.arch, params.dataset, params.style)
    picture = read_own_picture(photograph, settings)
    write_bytes(output, encode(make_sheet(models, open_engine(settings).painter, picture, params), format))
    click.echo(str(output))
