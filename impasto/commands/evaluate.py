"""`impasto evaluate`: measure trained networks, as a table and as a page."""

from pathlib import Path

import click

from impasto.core.nets.checkpoints import Zoo
from impasto.options import read_settings


@click.command()
@click.option("--arch", help="Only this network.")
@click.option("--dataset", help="Only networks trained on this.")
@click.option("--style", help="Only this style.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Photographs: a folder or an archive.  [default: coco, as fetched]"
)
@click.option(
    "--style-image",
    type=click.Path(path_type=Path),
    help="The style's picture; needed where there is no Gram file of its name.",
)
@click.option(
    "--json",
    "output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write all figures to. Figures in it are not measured again.",
)
@click.option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Markdown page to write about these models, with a grid of pictures beside it.",
)
@click.option(
    "--photograph",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=Path("docs/cat.jpg"),
    show_default=True,
    help="Photograph that the page shows painted.",
)
def evaluate(
    data: Path | None,
    style_image: Path | None,
    output: Path | None,
    page: Path | None,
    photograph: Path,
    **names: str | None,
) -> None:
    """Measure trained networks on photographs: on the twenty held out of COCO, or on all others."""
    from impasto.training.evaluate import evaluate_models
    from impasto.training.figures import Figures
    from impasto.training.page import write_page
    from impasto.training.sources import Sources

    settings = read_settings()
    models = Zoo(settings.models, settings.styles).select(**names)
    sources, figures = Sources(settings, (data,) if data else (), style_image), Figures(output)
    found = evaluate_models(models, sources, figures)
    if page:
        write_page(page, photograph, models, found, figures, sources)
