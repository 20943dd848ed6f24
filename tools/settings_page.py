"""Write docs/settings.md from `core/settings.py`, where every setting is described: `python -m tools.settings_page`."""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from impasto.core.settings import ROOT, Settings

PAGE = ROOT / "docs" / "settings.md"

HEAD = """# Settings

Settings are environment variables. They are read once, at the start; a wrong value stops the start, with its name.
[.env.example](../.env.example) lists those that docker-compose hands on.

Two variables are no settings of the service: `impasto jobs` reads `IMPASTO_KEY`, and S3 takes its credentials from
`AWS_ACCESS_KEY_ID` and so on.

This page is written from the descriptions in `core/settings.py`. After a change there, write it again:

    .venv/bin/python -m tools.settings_page

| setting | default | |
|---|---|---|
"""


def page() -> str:
    """Return the page as Markdown, one row for each field of `Settings`."""
    return HEAD + "".join(
        f"| `IMPASTO_{name.upper()}` |{shown(field.default)} | {field.description}{choices(field.annotation)} |\n"
        for name, field in Settings.model_fields.items()
    )


def shown(default: Any) -> str:
    """Return a default as its cell has it, after a space; a path inside the clone is shown relative to that."""
    if isinstance(default, Path) and default.is_relative_to(ROOT):
        default = default.relative_to(ROOT)
    return f" {default}" if str(default) else ""


def choices(annotation: Any) -> str:
    """Return the values that a setting may have, where they are a few words."""
    return f" ({', '.join(get_args(annotation))})" if get_origin(annotation) is Literal else ""


if __name__ == "__main__":
    PAGE.write_text(page())
