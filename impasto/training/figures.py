"""A cache of figures that take minutes to measure, in a JSON file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from impasto.core.errors import BadParameter
from impasto.core.files import write_bytes


class Figures:
    """Figures by name, read from the file at `path` and written to it one by one; without a path they are not written.

    Raises BadParameter where the file holds something else.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._rows: dict[str, dict[str, Any]] = {}
        if path and path.exists():
            try:
                self._rows = {name: dict(row) for name, row in json.loads(path.read_text()).items()}
            except (ValueError, AttributeError, TypeError) as error:
                raise BadParameter(f"{path} does not hold figures of `impasto evaluate`. Name another file.") from error

    def get(self, name: str, of: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The figures under `name` if they were measured of `of`, a hash; otherwise those of `measure()`."""
        row = self._rows.get(name, {})
        if row.get("of") != of:
            row = {"of": of, **measure()}
            self._rows[name] = row
            if self.path:
                write_bytes(self.path, (json.dumps(self._rows, indent=1) + "\n").encode())
        return {key: value for key, value in row.items() if key != "of"}
