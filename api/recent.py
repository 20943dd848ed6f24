"""Pictures that were sent a short while ago, so that another painting of one needs no second upload."""

import asyncio
import secrets
from collections import OrderedDict

from core.errors import PictureGone

KEPT_FOR = 600.0
"""Seconds that a picture is held."""


class Recent:
    """Bytes by a token that nobody can guess; over `max_bytes` in all, the one longest unused goes.

    Is used on the event loop alone, and so needs no lock.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._held: OrderedDict[str, bytes] = OrderedDict()

    def keep(self, data: bytes) -> str | None:
        """The token of a picture; None for one that is too large to hold."""
        if len(data) > self.max_bytes:
            return None
        token = secrets.token_urlsafe(16)
        self._held[token] = data
        while sum(map(len, self._held.values())) > self.max_bytes:
            self._held.popitem(last=False)
        asyncio.get_running_loop().call_later(KEPT_FOR, self._held.pop, token, None)
        return token

    def get(self, token: str) -> bytes:
        """Raises PictureGone."""
        if token not in self._held:
            raise PictureGone("That picture is not held here any more: send it again.")
        self._held.move_to_end(token)
        return self._held[token]
