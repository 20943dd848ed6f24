"""Pictures that were sent a short while ago, so that another painting of one needs no second upload."""

import asyncio
import secrets
from dataclasses import dataclass

from cachetools import TTLCache

from impasto.core.errors import PictureGone

SECONDS = 600.0
"""Seconds that a picture is held."""
MAX_BYTES = 64_000_000
MOST = 1000
"""Pictures that are held, however small: each has its overhead."""


@dataclass(frozen=True)
class Upload:
    data: bytes
    owner: str | None


class UploadCache:
    """Bytes by a token that nobody can guess, and that serves its owner alone, the key that sent them.

    Over `max_bytes` or `MOST` in all, the one longest unused goes. Is used on the event loop alone, and so needs no
    lock.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._uploads: TTLCache[str, Upload] = TTLCache(
            max_bytes, SECONDS, getsizeof=lambda upload: max(len(upload.data), max_bytes // MOST)
        )

    def put(self, data: bytes, owner: str | None = None) -> str | None:
        """Return the token of a picture; None for one that is too large to hold."""
        token = secrets.token_urlsafe(16)
        try:
            self._uploads[token] = Upload(data, owner)
        except ValueError:  # cachetools' own, for a value larger than all
            return None
        asyncio.get_running_loop().call_later(SECONDS + 0.1, self._uploads.expire)  # without waiting for the next use
        return token

    def get(self, token: str, owner: str | None = None) -> bytes:
        """Raises PictureGone, also for another owner's."""
        upload = self._uploads.get(token)
        if upload is None or upload.owner != owner:
            raise PictureGone("That picture is not held here any more: send it again.")
        return upload.data
