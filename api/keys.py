"""Keys of the API: a file with a line for each, `name sha256 scopes [requests a minute]`, which `impasto keys` writes.

The file holds hashes, no keys. A key is 256 random bits, so one plain SHA-256 is enough.
"""

import hmac
import logging
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from impasto.core.errors import BadParameter, Conflict, NotFound
from impasto.core.files import stamp, write_bytes
from impasto.core.names import check_name, is_name

SCOPES = {
    "stylize": "paint at once",
    "jobs": "submit jobs, trainings too, and see, cancel and erase its own",
    "metrics": "read /metrics",
    "admin": "all of that, every job, and deleting styles",
}
HEAD = "# Keys of Impasto's API, as hashes: name sha256 scopes [requests a minute]. Written by `impasto keys`.\n"

log = logging.getLogger("impasto")


@dataclass(frozen=True)
class Key:
    """A key as the file has it, by its hash. `rate` is requests a minute; None is IMPASTO_RATE."""

    name: str
    sha256: str
    scopes: frozenset[str]
    rate: int | None = None

    @property
    def line(self) -> str:
        scopes = ",".join(scope for scope in SCOPES if scope in self.scopes)
        return f"{self.name} {self.sha256} {scopes}" + (f" {self.rate}" if self.rate else "")


class Keys:
    """The keys in a file. It is read again when it has changed, so a key that was removed opens nothing from then on.

    A missing file has no keys, and nobody enters.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[int, int] | None = None
        self._keys: list[Key] = []

    def find(self, key: str) -> Key | None:
        """The entry of a key that was presented; None if there is none."""
        digest = sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for known in self.all():  # all of them, each in constant time
            if hmac.compare_digest(known.sha256, digest):
                found = known
        return found

    def all(self) -> list[Key]:
        try:
            now = stamp(self.path)
            if self._read != now:
                self._keys, self._read = list(_parsed(self.path.read_text("utf-8", "replace"))), now
        except OSError as error:
            if self._read or self._keys:
                log.error(
                    "The file of keys %s cannot be read (%s): until it can, no key is valid.", self.path, error.strerror
                )
            self._read, self._keys = None, []
        return self._keys

    def add(self, name: str, scopes: Iterable[str], rate: int | None = None) -> str:
        """Make a key and return it; only its hash is kept. Raises BadParameter, and Conflict for a taken name."""
        check_name(name, "key")
        wrong = set(scopes) - SCOPES.keys()
        if wrong or not scopes:
            given = f"{', '.join(sorted(wrong))} is not a scope" if wrong else "No scope was given"
            raise BadParameter(f"{given}. Scopes are {', '.join(SCOPES)}.")
        if any(key.name == name for key in self.all()):
            raise Conflict(f"There is a key {name} already. Remove it first: impasto keys remove {name}.")
        secret = f"impasto_{secrets.token_urlsafe(32)}"
        key = Key(name, sha256(secret.encode()).hexdigest(), frozenset(scopes), rate)
        text = self.path.read_text() if self.path.exists() else HEAD
        self._write(text.rstrip("\n") + f"\n{key.line}\n")
        return secret

    def named(self, name: str) -> Key:
        """Raises NotFound."""
        for key in self.all():
            if key.name == name:
                return key
        raise NotFound(f"There is no key {name[:80]!r} in {self.path}.")

    def remove(self, name: str) -> None:
        """Raises NotFound."""
        self.named(name)
        lines = self.path.read_text().splitlines(keepends=True)
        self._write("".join(line for line in lines if line.split()[:1] != [name]))

    def _write(self, text: str) -> None:
        write_bytes(self.path, text.encode())
        self._read = None


def _parsed(text: str) -> Iterable[Key]:
    """The keys of a file. A line of another form is skipped. The log has its number, not its text: it may be a key."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"(\S+)\s+([0-9a-fA-F]{64})\s+([a-z,]+)(?:\s+([1-9]\d{0,8}))?\s*", line)
        if not match or not is_name(match[1]) or not set(match[3].split(",")) <= SCOPES.keys():
            log.error(
                "Line %d of the file of keys does not have the form `name sha256 scopes [rate]`. It is skipped.", number
            )
            continue
        yield Key(match[1], match[2].lower(), frozenset(match[3].split(",")), int(match[4]) if match[4] else None)
