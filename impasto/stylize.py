"""`impasto stylize`: paint a photograph, or every one in a folder."""

from pathlib import Path

import click

from core.checkpoints import Zoo
from core.engine import Engine, Painter
from core.errors import BadParameter, ImpastoError
from core.files import write_bytes
from core.images import Format, Limits, decode, encode
from core.paint import paint
from core.recipes import PaintParams
from core.settings import Settings

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".heic", ".heif", ".avif", ".gif"}
FORMATS: dict[str, Format] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def stylize(source: Path, output: Path | None, params: PaintParams, settings: Settings) -> None:
    """Paint `source` into `output`, or beside it under `<name>-<style>.png`.

    In a folder a picture that cannot be painted is named and passed over; the error comes at the end.
    """
    jobs = _jobs(source, output, params.style)
    entry = Zoo(settings.models, settings.styles).find(params.arch, params.dataset, params.style)
    engine = Engine(settings.cache_folder, device=settings.device, threads=settings.threads, vgg16=settings.vgg16)
    painter = engine.painter(entry.path)
    limits = Limits(settings.max_bytes, settings.max_pixels)
    failed = []
    for photo, painting in jobs:
        try:
            _paint_file(photo, painting, painter, params, limits)
            click.echo(str(painting))
        except ImpastoError as error:
            if source.is_file():
                raise
            failed.append(f"{photo}: {error.message}")
            click.secho(failed[-1], fg="red", err=True)
    if failed:
        raise BadParameter(f"{len(failed)} of {len(jobs)} pictures could not be painted.")


def _jobs(source: Path, output: Path | None, style: str) -> list[tuple[Path, Path]]:
    """(photograph, painting) for each file."""
    if source.is_file():
        if output and output.is_dir():
            output = output / f"{source.stem}-{style}.png"
        return [(source, output or source.with_name(f"{source.stem}-{style}.png"))]
    folder = output or source.with_name(f"{source.name}-{style}")
    if folder.is_file():
        raise BadParameter(f"{source} is a folder, so the output must be one, too: {folder} is a file.")
    photos = [path for path in sorted(source.iterdir()) if path.suffix.lower() in PICTURES]
    if not photos:
        raise BadParameter(f"There are no pictures in {source}.")
    return [(photo, folder / f"{photo.stem}.png") for photo in photos]


def _paint_file(photo: Path, painting: Path, painter: Painter, params: PaintParams, limits: Limits) -> None:
    suffix = painting.suffix.lower()
    if suffix not in FORMATS:
        raise BadParameter(f"No format for {painting.name}: its suffix must be one of {', '.join(FORMATS)}.")
    if photo.resolve() == painting.resolve():
        raise BadParameter(f"{painting} is the photograph itself: choose another output.")
    picture = paint(painter, decode(photo.read_bytes(), limits), params)
    write_bytes(painting, encode(picture, FORMATS[suffix]))
