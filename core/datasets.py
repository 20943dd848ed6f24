"""Prepared datasets, by name: a folder of photographs, or an archive of them."""

from pathlib import Path

from impasto.core.names import is_name, unknown

ARCHIVES = (".zip", ".tar.gz", ".tar")


def known_datasets(folder: Path) -> dict[str, Path]:
    """The datasets in `folder` by name: `<name>/`, or `<name>.zip` and the like."""
    found = {}
    for path in sorted(folder.glob("*")):
        name = path.name if path.is_dir() else _stem(path.name)
        if is_name(name):
            found[name] = path
    return found


def find_dataset(folder: Path, name: str) -> Path:
    """The path of a dataset. Raises NotFound, with the known names and the nearest."""
    known = known_datasets(folder)
    if name not in known:
        advice = (
            " Fetch the report's two with `impasto data fetch`, or give your own photographs (`--data`, or in the job)."
        )
        raise unknown("dataset", name, known, advice)
    return known[name]


def _stem(name: str) -> str:
    """The name of an archive without its suffix; an empty string for other files."""
    return next((name.removesuffix(suffix) for suffix in ARCHIVES if name.endswith(suffix)), "")
