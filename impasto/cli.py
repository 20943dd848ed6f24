"""`impasto`: serve, stylize, compare, paint, styles, convert, train, evaluate, jobs, keys, data."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from core.errors import ImpastoError
from core.recipes import CompareParams, GatysParams, PaintParams, Recipe, TrainParams
from core.settings import Settings
from impasto.options import given, in_words, options

T = TypeVar("T")
TRAIN_OPTIONS = [name for name in TrainParams.model_fields if name != "recipe"]


def main() -> None:
    """The console command: our errors are shown as a sentence, and exit with 2."""
    try:
        cli.main(standalone_mode=False)
    except ImpastoError as error:
        click.secho(f"impasto: {error.message}", fg="red", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Neural style transfer: paint photographs, serve that over HTTP, train new styles."""


@cli.command()
@click.option("--host", help="Address to listen on.  [default: IMPASTO_HOST or 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: IMPASTO_PORT or 8000]")
def serve(**flags: Any) -> None:
    """Start the service."""
    from impasto.serve import serve as start

    start(_settings(**given(flags)))


@cli.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File, or folder when SOURCE is one.")
@options(PaintParams, only=[name for name in PaintParams.model_fields if name != "format"])
def stylize(source: Path, output: Path | None, **flags: Any) -> None:
    """Paint SOURCE, a photograph or a folder of them. The output's suffix decides its format."""
    from impasto.stylize import stylize as run

    run(source, output, _validated(lambda: PaintParams(**given(flags))), _settings())


@cli.command()
@click.argument("photograph", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File or folder.  [default: beside PHOTOGRAPH, as PNG]"
)
@click.option(
    "--style-image",
    "style_images",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A picture of the style, instead of its name; several are blended.",
)
@options(GatysParams)
def paint(photograph: Path, output: Path | None, style_images: tuple[Path, ...], **flags: Any) -> None:
    """Paint PHOTOGRAPH by optimising its pixels: slow, and at its best. Ctrl-C keeps the best picture so far."""
    from impasto.paint import paint as run

    if not run(photograph, output, _validated(lambda: GatysParams(**given(flags))), style_images, _settings()):
        sys.exit(130)


@cli.command()
@click.argument("photograph", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File.  [default: beside PHOTOGRAPH, as NAME-compared.png]"
)
@options(CompareParams, only=[name for name in CompareParams.model_fields if name != "format"])
def compare(photograph: Path, output: Path | None, **flags: Any) -> None:
    """Paint PHOTOGRAPH with every model of a style, a network or a dataset, on one labelled sheet."""
    from impasto.compare import compare as run

    output = output or photograph.with_name(f"{photograph.stem}-compared.png")
    run(photograph, output, _validated(lambda: CompareParams(**given(flags))), _settings())
    click.echo(str(output))


@cli.command()
def styles() -> None:
    """List the models there are."""
    from core.checkpoints import Zoo

    settings = _settings()
    for (arch, dataset, style), entry in Zoo(settings.models, settings.styles).entries().items():
        p = entry.card.params
        weights = f"content {p.content_weight:g}, style {p.style_weight:g}"
        click.echo(f"{arch}/{dataset}/{style}: {p.steps} steps of {p.batch} at {p.size} px, {weights}")


@cli.command()
def convert() -> None:
    """Convert the models that came with Impasto for the engine, so that no start has to: for images and packages."""
    from core.checkpoints import Zoo
    from core.engine import Engine

    models = _settings().models
    engine = Engine(models, device="cpu")
    for (arch, dataset, style), entry in Zoo(models).entries().items():
        engine.painter(entry.path)
        click.echo(f"{arch}/{dataset}/{style}")


@cli.command()
@options(TrainParams, only=TRAIN_OPTIONS, defaults=False)
@click.option(
    "--recipe",
    "kind",
    type=click.Choice(["ours", "report"]),
    default="ours",
    show_default=True,
    help="Objective and defaults: what our own checkpoints were trained with, or the report's Algorithm 2 and Table 1.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Photographs: a folder or an archive; several are put together.  [default: as fetched]",
)
@click.option(
    "--style-image", type=click.Path(path_type=Path), help="The style's picture; needed unless its Grams are kept."
)
@click.option(
    "--run", "folder", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/ARCH-DATASET-STYLE]"
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of models that the checkpoint goes to.")
@click.option("--table1", is_flag=True, help="All of Table 1's models, or those of --arch, --dataset and --style.")
@click.option(
    "--trial", is_flag=True, help="100 steps at each of five style weights, on one sheet in the run's folder."
)
@click.option(
    "--again",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint: train it again, from the parameters of its card.",
)
def train(
    kind: Recipe,
    data: tuple[Path, ...],
    style_image: Path | None,
    folder: Path | None,
    out: Path | None,
    table1: bool,
    trial: bool,
    again: Path | None,
    **flags: Any,
) -> None:
    """Train a network to paint a style. Stops cleanly on Ctrl-C; the same command then goes on."""
    from core.weights import check_recipe
    from impasto import train as training
    from impasto.trial import trial as run_trial

    settings = _settings()
    rows = _rows(kind, table1, again, given(flags))
    check_recipe(rows[0].recipe, settings.vgg16)
    if table1 and (style_image or trial):
        raise click.UsageError("--table1 has its own --style-image, by their names, and is no --trial.")
    tasks = [training.task(params, folder, out or settings.styles, many=table1, trial=trial) for params in rows]
    if table1:
        tasks = training.untrained(tasks)
    if again:
        training.warn_of_another_start(tasks[0], again, settings)
    sources = training.Sources(settings, data, style_image)
    if not (run_trial(tasks[0], sources) if trial else training.train(tasks, sources)):
        click.echo("Stopped; the same command goes on from here.")
        sys.exit(130)


def _rows(kind: Recipe, table1: bool, again: Path | None, changes: dict[str, Any]) -> list[TrainParams]:
    """What is to be trained: Table 1, what a card says, or one model."""
    from core.checkpoints import read_card
    from core.table1 import recipe, twenty

    if again:
        if changes or table1:
            raise click.UsageError("--again takes every parameter from the card: leave the others out.")
        return [read_card(again).params]
    if table1:
        if rows := _validated(lambda: twenty(kind, **changes)):
            return rows
        raise click.UsageError("Table 1 has no model of that --arch, --dataset and --style.")
    if missing := [f"--{name}" for name in ("arch", "dataset", "style") if name not in changes]:
        raise click.UsageError(f"Missing {', '.join(missing)}; or --table1 for all of the report's models.")
    return [_validated(lambda: recipe(kind=kind, **changes))]


@cli.command()
@click.option("--arch", help="Only this network.")
@click.option("--dataset", help="Only what was trained on this.")
@click.option("--style", help="Only this style.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Photographs: a folder or an archive.  [default: coco, as fetched]"
)
@click.option(
    "--style-image", type=click.Path(path_type=Path), help="The style's picture; needed unless its Grams are kept."
)
@click.option(
    "--json",
    "output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write all figures to; what it has already is not measured again.",
)
@click.option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Page to write about these models, in Markdown, its grid of pictures beside it.",
)
@click.option(
    "--photograph",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=Path("docs/cat.jpg"),
    show_default=True,
    help="What the page shows painted.",
)
def evaluate(
    data: Path | None,
    style_image: Path | None,
    output: Path | None,
    page: Path | None,
    photograph: Path,
    **names: str | None,
) -> None:
    """Measure trained networks on photographs: of COCO the twenty that nothing is trained on, of others all."""
    from core.checkpoints import Zoo
    from impasto.evaluate import evaluate_models
    from impasto.figures import Figures
    from impasto.page import write_page
    from impasto.train import Sources

    settings = _settings()
    models = Zoo(settings.models, settings.styles).select(**names)
    sources, figures = Sources(settings, (data,) if data else (), style_image), Figures(output)
    found = evaluate_models(models, sources, figures)
    if page:
        write_page(page, photograph, models, found, figures, sources)


@cli.command("train-encoder")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Photographs: a folder or an archive; several are put together.  [default: coco, as fetched]",
)
@click.option("--steps", type=click.IntRange(min=1), default=1200, show_default=True, help="Of four crops of 128 px.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the weights and the crops.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write it to.")
def train_encoder(data: tuple[Path, ...], out: Path, **numbers: int) -> None:
    """Train the frozen part of the vgg16 network: to keep all that it takes to give a photograph back."""
    from core.datasets import find_dataset
    from core.engine import find_device
    from impasto.encoder import train_encoder_on

    settings = _settings()
    sources = list(data) or [find_dataset(settings.datasets, "coco")]
    device = find_device(settings.device)
    train_encoder_on(sources, settings.cache_folder / "datasets", out, device=device, **numbers)


@cli.command()
@click.argument("network", type=click.Choice(["vgg16", "squeezenet"]))
@click.option("--teacher", default="imagenet", show_default=True, help="Whom it learns from: imagenet, or a file.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Pictures: a folder or an archive; several are put together.  [default: coco, as fetched]",
)
@click.option("--batches", type=click.IntRange(min=1), default=32, show_default=True, help="Of four crops of 128 px.")
@click.option("--epochs", type=click.IntRange(min=1), default=60, show_default=True, help="Times that all are seen.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the weights and the crops.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write it to.")
def distil(network: str, teacher: str, data: tuple[Path, ...], out: Path, **numbers: int) -> None:
    """Train a loss network to compute what the original NETWORK computes, layer by layer."""
    from core.datasets import find_dataset
    from impasto.distil import distil_network

    settings = _settings()
    sources = list(data) or [find_dataset(settings.datasets, "coco")]
    distil_network(network, teacher, sources, settings.cache_folder / "datasets", out, **numbers)


@cli.command("keep-style")
@click.argument("name")
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of models.  [default: the one that came with Impasto]"
)
def keep_style(name: str, image: Path, out: Path | None) -> None:
    """Keep the Gram matrices of IMAGE as the style NAME, so that training it needs no picture."""
    from impasto.train import keep_style as run

    run(name, image, out, _settings())


@cli.group()
@click.option("--url", help="Where it is.  [default: localhost, at IMPASTO_PORT]")
@click.option("--key", envvar="IMPASTO_KEY", help="A key of its API.  [default: IMPASTO_KEY]")
@click.pass_context
def jobs(context: click.Context, url: str | None, key: str | None) -> None:
    """The slow work of a running service."""
    from impasto.jobs import Client

    context.obj = Client(url or f"http://localhost:{_settings().port}", key)


@jobs.command("list")
@click.option("--status", help="Only those that are queued, running, succeeded, failed or canceled.")
@click.pass_obj
def list_jobs(client: Any, status: str | None) -> None:
    """All jobs, or those of the key, the newest first."""
    client.show_list(status)


@jobs.command()
@click.argument("id")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write the result to.")
@click.pass_obj
def watch(client: Any, id: str, output: Path | None) -> None:
    """Follow a job until it is over."""
    if client.watch(id, output) != "succeeded":
        sys.exit(1)


@jobs.command()
@click.argument("id")
@click.pass_obj
def cancel(client: Any, id: str) -> None:
    """Cancel a job; a painting keeps the best there is."""
    client.cancel(id)


@cli.group()
@click.option(
    "--file", type=click.Path(dir_okay=False, path_type=Path), help="The file of keys.  [default: IMPASTO_KEYS]"
)
@click.pass_context
def keys(context: click.Context, file: Path | None) -> None:
    """The keys of the API, in the file that IMPASTO_KEYS names."""
    from core.keys import Keys

    path = file or _settings().keys
    if not path:
        raise click.UsageError(
            "Say which file: impasto keys --file keys, or IMPASTO_KEYS=keys, which the service reads."
        )
    context.obj = Keys(Path(path))


@keys.command("add")
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, default=("stylize", "jobs"), show_default=True, help="What it may do."
)
@click.option("--rate", type=click.IntRange(min=1), help="Requests a minute.  [default: IMPASTO_RATE]")
@click.pass_obj
def add_key(keys: Any, name: str, scopes: tuple[str, ...], rate: int | None) -> None:
    """Make a key and print it, once: only its hash is kept. Scopes: stylize, jobs, metrics, admin."""
    click.echo(keys.add(name, scopes, rate))


@keys.command("list")
@click.pass_obj
def list_keys(keys: Any) -> None:
    """Names, scopes and rates."""
    for key in keys.all():
        click.echo(f"{key.name}: {', '.join(sorted(key.scopes))}" + (f", {key.rate} a minute" if key.rate else ""))


@keys.command("remove")
@click.argument("name")
@click.pass_obj
def remove_key(keys: Any, name: str) -> None:
    """Take a key away; from then on it opens nothing."""
    keys.remove(name)


@cli.group()
def data() -> None:
    """The photographs that networks learn from."""


@data.command()
@click.argument("name", type=click.Choice(["coco", "tinyimagenet"]))
@click.option("--folder", type=click.Path(path_type=Path), help="Where to.  [default: IMPASTO_DATASETS]")
@click.option("--url", help="From where, if not from its makers.")
def fetch(name: str, folder: Path | None, url: str | None) -> None:
    """Download COCO val2014 (6 GB) or TinyImageNet (240 MB). Goes on where it stopped, and verifies."""
    from impasto.data import fetch as run

    run(name, folder or _settings().datasets, url)


def _settings(**flags: Any) -> Settings:
    try:
        return Settings(**flags)
    except ValidationError as error:
        wrong = {str(e["loc"][0]).upper().removeprefix("IMPASTO_"): e["msg"] for e in error.errors()}
        names = ", ".join(f"IMPASTO_{name} ({message})" for name, message in wrong.items())
        raise click.UsageError(f"These settings are wrong: {names}") from error


def _validated(make: Callable[[], T]) -> T:
    try:
        return make()
    except ValidationError as error:
        raise in_words(error) from error
