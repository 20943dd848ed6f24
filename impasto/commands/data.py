"""`impasto data fetch`: the report's datasets, with a progress bar."""

from pathlib import Path

import click
from tqdm import tqdm

from impasto.options import read_settings
from impasto.worker.fetch import fetch as download


@click.group()
def data() -> None:
    """Fetch photographs to train on."""


@data.command()
@click.argument("name", type=click.Choice(["coco", "tinyimagenet"]))
@click.option("--folder", type=click.Path(path_type=Path), help="Folder to write to.  [default: IMPASTO_DATASETS]")
@click.option("--url", help="Another address of the archive.")
def fetch(name: str, folder: Path | None, url: str | None) -> None:
    """Download COCO val2014 (6 GB) or TinyImageNet (240 MB). Goes on with a download that stopped, and verifies it."""
    with tqdm(unit="B", unit_scale=True, dynamic_ncols=True, desc=name) as bar:

        def show(done: int, size: int) -> None:
            bar.total = size
            bar.update(done - bar.n)

        path = download(name, folder or read_settings().datasets, url=url, on_progress=show)
    click.echo(str(path))
