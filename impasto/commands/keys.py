"""`impasto keys`: the keys of the API."""

from pathlib import Path

import click

from impasto.api.keys import Keys
from impasto.options import read_settings


@click.group()
@click.option(
    "--file", type=click.Path(dir_okay=False, path_type=Path), help="The file of keys.  [default: IMPASTO_KEYS]"
)
@click.pass_context
def keys(context: click.Context, file: Path | None) -> None:
    """The keys of the API, in the file that IMPASTO_KEYS names."""
    path = file or read_settings().keys
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
def add_key(keys: Keys, name: str, scopes: tuple[str, ...], rate: int | None) -> None:
    """Make a key and print it, once: only its hash is kept. Scopes: stylize, jobs, metrics, admin."""
    click.echo(keys.add(name, scopes, rate))


@keys.command("list")
@click.pass_obj
def list_keys(keys: Keys) -> None:
    """Names, scopes and rates."""
    for key in keys.all():
        click.echo(f"{key.name}: {', '.join(sorted(key.scopes))}" + (f", {key.rate} a minute" if key.rate else ""))


@keys.command("remove")
@click.argument("name")
@click.pass_obj
def remove_key(keys: Keys, name: str) -> None:
    """Take a key away; from then on it opens nothing."""
    keys.remove(name)
