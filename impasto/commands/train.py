"""`impasto train`: train one network, or all of Table 1."""

import sys
from pathlib import Path
from typing import Any, get_args

import click

from impasto.core.nets.checkpoints import read_card
from impasto.core.nets.weights import check_recipe
from impasto.core.params import Recipe, TrainParams
from impasto.core.recipes import recipe, twenty
from impasto.options import given, options, read_settings, validated

TRAIN_OPTIONS = [name for name in TrainParams.model_fields if name != "recipe"]


@click.command()
@options(TrainParams, only=TRAIN_OPTIONS, defaults=False)
@click.option(
    "--recipe",
    "kind",
    type=click.Choice(get_args(Recipe)),
    default="ours",
    show_default=True,
    help="Objective and defaults: ours, as of the models in the clone, or the report's Algorithm 2 and Table 1.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Photographs: a folder or an archive; may be repeated.  [default: as fetched]",
)
@click.option(
    "--style-image",
    type=click.Path(path_type=Path),
    help="The style's picture; needed where there is no Gram file of its name.",
)
@click.option(
    "--run", "folder", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/ARCH-DATASET-STYLE]"
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of models to write the checkpoint to.  [default: IMPASTO_STYLES]",
)
@click.option(
    "--table1", is_flag=True, help="Train all of Table 1's models, or those of --arch, --dataset and --style."
)
@click.option(
    "--trial",
    is_flag=True,
    help="Train 100 steps at each of five style weights, and write a sheet of them to the run's folder.",
)
@click.option(
    "--again",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoint to train again, with the parameters of its card.",
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
    """Train a network to paint a style. Ctrl-C stops it, and the same command goes on."""
    from impasto.training import runs
    from impasto.training.sources import Sources
    from impasto.training.trial import trial as run_trial

    settings = read_settings()
    rows = _rows(kind, table1, again, given(flags))
    check_recipe(rows[0].recipe, settings.vgg16)
    if table1 and (style_image or trial):
        raise click.UsageError(
            "--table1 finds styles by name and trains to the end: leave out --style-image and --trial."
        )
    tasks = [runs.task(params, folder, out or settings.styles, many=table1, trial=trial) for params in rows]
    if table1:
        tasks = runs.untrained(tasks)
    if again:
        runs.warn_of_another_start(tasks[0], again, settings)
    sources = Sources(settings, data, style_image)
    if not (run_trial(tasks[0], sources) if trial else runs.train(tasks, sources)):
        click.echo("Stopped. The same command goes on from here.")
        sys.exit(130)


def _rows(kind: Recipe, table1: bool, again: Path | None, changes: dict[str, Any]) -> list[TrainParams]:
    """The parameters of each training: of Table 1, of the checkpoint `again`, or of one model."""
    if again:
        if changes or table1:
            raise click.UsageError("--again takes every parameter from the card. Leave the others out.")
        return [read_card(again).params]
    if table1:
        if rows := validated(lambda: twenty(kind, **changes)):
            return rows
        raise click.UsageError("Table 1 has no model with this --arch, --dataset and --style.")
    if missing := [f"--{name}" for name in ("arch", "dataset", "style") if name not in changes]:
        raise click.UsageError(f"Give {', '.join(missing)}, or --table1 for all of the report's models.")
    return [validated(lambda: recipe(kind=kind, **changes))]
