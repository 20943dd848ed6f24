"""`impasto keys`: the keys of the API."""

from pathlib import Path

import click

from impasto.api.keys import Keys
from impasto.core.jobs.webhooks import webhook_secret
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
            "Name the file of keys: impasto keys --file keys, or IMPASTO_KEYS=keys, which the service reads."
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
    """Make a key and print it, once: only its hash is kept. Scopes: stylize, jobs, metrics, admin.

    Where IMPASTO_WEBHOOK_SECRET is set, standard error gets the secret that signs the webhooks of its jobs.
    """
    click.echo(keys.add(name, scopes, rate))
    if secret := read_settings().webhook_secret:
        click.echo(f"Secret of its webhooks: {webhook_secret(secret, name)}", err=True)


@keys.command("webhook-secret")
@click.argument("name")
@click.pass_obj
def show_webhook_secret(keys: Keys, name: str) -> None:
    """Print the secret that signs the webhooks of a key's jobs. It belongs to the key's name."""
    secret = read_settings().webhook_secret
    if not secret:
        raise click.UsageError("Set IMPASTO_WEBHOOK_SECRET as for the service: the secrets of keys come from it.")
    click.echo(webhook_secret(secret, keys.named(name).name))


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
    """Remove a key. From then on it opens nothing."""
    keys.remove(name)
