"""The admin's token of a service without keys, in a file that only the user of the service can read.

Whoever presents it is the admin. Where a request comes from proves nothing: behind a proxy everybody comes from this
machine.
"""

import secrets
from contextlib import suppress
from pathlib import Path

from impasto.core.files import replacing

NAME = "admin-token"


def read_token(folder: Path) -> str | None:
    """Return the token in `folder`; None if there is none, or if other users may read or change it."""
    path = folder / NAME
    try:
        return None if path.stat().st_mode & 0o077 else path.read_text("latin-1") or None
    except OSError:
        return None


def open_token(folder: Path) -> str | None:
    """Return the token in `folder`, and make it first if there is none. None if it cannot be kept there."""
    if not read_token(folder):
        with suppress(OSError):  # FileExistsError too: another service made one at the same moment
            (folder / NAME).unlink(missing_ok=True)
            with replacing(folder / NAME, exclusive=True, mode=0o600) as temporary:
                temporary.write_text(secrets.token_urlsafe(32))
    return read_token(folder)
