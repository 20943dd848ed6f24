"""`impasto`: all commands, each in a file of `commands/`. No command imports torch before it runs."""

import sys

import click

from impasto.commands.compare import compare
from impasto.commands.data import data
from impasto.commands.distil import distil
from impasto.commands.encoder import train_encoder
from impasto.commands.evaluate import evaluate
from impasto.commands.jobs import jobs
from impasto.commands.keys import keys
from impasto.commands.models import convert, keep_style, models
from impasto.commands.paint import paint
from impasto.commands.serve import serve
from impasto.commands.stylize import stylize
from impasto.commands.train import train
from impasto.core.errors import ImpastoError

PAINTING = (serve, stylize, paint, compare, models, convert)
TRAINING = (train, evaluate, train_encoder, distil, keep_style, data)
SERVICE = (jobs, keys)


def main() -> None:
    """Run the console command. An error of ours is shown as a sentence, with exit status 2."""
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


for command in (*PAINTING, *TRAINING, *SERVICE):
    cli.add_command(command)
