"""`impasto data fetch`: the report's datasets, with a progress bar."""

from pathlib import Path

import click
from tqdm import tqdm

from worker.fetch import fetch as download


def fetch(name: str, folder: Path, url: str | None) -> None:
    """Download a dataset's archive into `folder`, or go on with it."""
    with tqdm(unit="B", unit_scale=True, dynamic_ncols=True, desc=name) as bar:

        def show(done: int, size: int) -> None:
            bar.total = size
            bar.update(done - bar.n)

        path = download(name, folder, url=url, on_progress=show)
    click.echo(str(path))
