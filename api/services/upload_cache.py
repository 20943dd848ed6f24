"""Pictures that were sent a short while ago, so that another painting of one needs no second upload."""

import asyncio
import secrets
from collections import OrderedDict

from impasto.core.errors import PictureGone

KEPT_FOR = 600.0
"""Seconds that a picture is held."""
MOST = 1000
"""Pictures that are, however small: each has its overhead."""


class Recent:
    """Bytes by a token that nobody can guess, and that serves its owner alone, the key that sent them.

    Over `max_bytes` or `MOST` in all, the one longest unused goes.

    Is used on the event loop alone, and so needs no lock.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._held: OrderedDict[str, tuple[bytes, str | None]] = OrderedDict()
        self._bytes = 0

    def keep(self, data: bytes, owner: str | None = None) -> str | None:
        """The token of a picture; None for one that is too large to hold."""
        if len(data) > self.max_bytes:
            return None
        token = secrets.token_urlsafe(16)
        self._held[token] = data, owner
        self._bytes += len(data)
        while self._bytes > self.max_bytes or len(self._held) > MOST:
            self._drop(next(iter(self._held)))
        asyncio.get_running_loop().call_later(KEPT_FOR, self._drop, token)
        return token

    def _drop(self, token: str) -> None:
        self._bytes -= len(self._held.pop(token, (b"", None))[0])

    def get(self, token: str, owner: str | None = None) -> bytes:
        """Raises PictureGone, also for another owner's."""
        data, theirs = self._held.get(token, (b"", None))
        if not data or theirs != owner:
            raise PictureGone("That picture is not held here any more: send it again.")
        self._held.move_to_end(token)
        return data
