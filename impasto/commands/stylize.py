"""`impasto stylize`: paint a photograph, or every one in a folder."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from impasto.core.errors import BadParameter, ImpastoError
from impasto.core.files import write_bytes
from impasto.core.nets.checkpoints import Zoo
from impasto.core.paint_params import PaintParams
from impasto.core.pictures.codec import Format, encode
from impasto.core.pictures.guard import SUFFIXES, is_picture
from impasto.core.settings import Settings
from impasto.core.stylize.engine import Painter, open_engine
from impasto.core.stylize.stylize import paint
from impasto.options import given, options, read_settings, validated
from impasto.pictures import read_own_picture

FORMATS: dict[str, Format] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File, or folder when SOURCE is one.")
@options(PaintParams, only=[name for name in PaintParams.model_fields if name != "format"])
def stylize(source: Path, output: Path | None, **flags: Any) -> None:
    """Paint SOURCE, a photograph or a folder of them. The output's suffix decides its format."""
    paint_files(source, output, validated(lambda: PaintParams(**given(flags))), read_settings())


def paint_files(source: Path, output: Path | None, params: PaintParams, settings: Settings) -> None:
    """Paint `source` into `output`, or beside it as `<name>-<style>.png`.

    In a folder a picture that cannot be painted is reported and skipped. The error is raised at the end.
    """
    jobs = pairs(source, output, params.style)
    entry = Zoo(settings.models, settings.styles).find(params.arch, params.dataset, params.style)
    engine = open_engine(settings)
    painter = engine.painter(entry.path)
    failed = []
    for photo, painting in jobs:
        try:
            _paint_file(photo, painting, painter, params, settings)
            click.echo(str(painting))
        except ImpastoError as error:
            if source.is_file():
                raise
            failed.append(f"{photo}: {error.message}")
            click.secho(failed[-1], fg="red", err=True)
    if failed:
        raise BadParameter(f"{len(failed)} of {len(jobs)} pictures could not be painted.")


def pairs(source: Path, output: Path | None, style: str) -> list[tuple[Path, Path]]:
    """(photograph, painting) for each file. No painting overwrites a photograph or another painting."""
    source = source.resolve()
    if source.is_file():
        if output and output.is_dir():
            output = output / f"{source.stem}-{style}.png"
        painting = output or source.with_name(f"{source.stem}-{style}.png")
        if painting.resolve() == source:
            raise BadParameter(f"{painting} is the photograph itself. Choose another output.")
        format_of(painting)
        return [(source, painting)]
    folder = output or source.with_name(f"{source.name}-{style}")
    if folder.is_file() or folder.resolve() == source:
        raise BadParameter(f"{source} is a folder, and its paintings need one of their own, other than {folder}.")
    photos = [path for path in sorted(source.iterdir()) if is_picture(path.name) and path.is_file()]
    if not photos:
        raise BadParameter(f"There are no pictures ({', '.join(sorted(SUFFIXES))}) in {source}.")
    stems = Counter(path.stem for path in photos)  # IMG_1.jpg and IMG_1.heic keep their suffixes
    return [(path, folder / f"{path.stem if stems[path.stem] == 1 else path.name}.png") for path in photos]


def _paint_file(photo: Path, painting: Path, painter: Painter, params: PaintParams, settings: Settings) -> None:
    arch = params.arch if params.strength else None
    picture = read_own_picture(photo, settings, arch=arch, paint_size=params.paint_size, max_side=params.max_side)
    write_bytes(painting, encode(paint(painter, picture, params, settings.max_painted), format_of(painting)))


def format_of(painting: Path) -> Format:
    """The format of a file, by its suffix. Raises BadParameter for another suffix."""
    if painting.suffix.lower() not in FORMATS:
        raise BadParameter(f"{painting.name!r} has no suffix of a picture. Use one of {', '.join(FORMATS)}.")
    return FORMATS[painting.suffix.lower()]
