"""Figures that take minutes, kept in a JSON file: each is measured once for what it was measured of."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from impasto.core.errors import BadParameter
from impasto.core.files import write_bytes


class Figures:
    """The figures in the file at `path`, by name, written as they come; without a path none are kept.

    Raises BadParameter where the file holds something else.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._rows: dict[str, dict[str, Any]] = {}
        if path and path.exists():
            try:
                self._rows = {name: dict(row) for name, row in json.loads(path.read_text()).items()}
            except (ValueError, AttributeError, TypeError) as error:
                raise BadParameter(f"{path} holds no figures of ours: name another file.") from error

    def get(self, name: str, of: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The figures under `name` if they were measured of `of`, some hash; else `measure()`."""
        row = self._rows.get(name, {})
        if row.get("of") != of:
            row = {"of": of, **measure()}
            self._rows[name] = row
            if self.path:
                write_bytes(self.path, (json.dumps(self._rows, indent=1) + "\n").encode())
        return {key: value for key, value in row.items() if key != "of"}
