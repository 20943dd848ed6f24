"""Access control: the service's names, the page that asks, the rate and the key, checked before a body is read."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from impasto.api.errors import answer
from impasto.api.keys import SCOPES, Keys
from impasto.core.errors import Forbidden, ImpastoError, TooMany, Unauthorized
from impasto.core.jobs.record import Job
from impasto.core.settings import Settings

HEALTH = ("/livez", "/readyz", "/readyz/jobs")
"""Asked by machines, often, and by whatever name or address they know."""
SAFE = ("GET", "HEAD", "OPTIONS")
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")
MOST_CLIENTS = 10_000
"""Clients whose rate is remembered; the one longest silent is forgotten first."""


@dataclass(frozen=True)
class Caller:
    """The sender of a request.

    Without keys everybody may paint and have jobs, whose ids are secrets, and this machine is the admin. With keys a
    caller may what its key may, and sees the jobs of its key.
    """

    scopes: frozenset[str]
    name: str | None = None
    keyed: bool = False

    def may(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def sees(self, job: Job) -> bool:
        return not self.keyed or self.may("admin") or job.owner == self.name


def needed(method: str, path: str) -> str | None:
    """The scope that a request needs. What describes the service needs none."""
    if path in ("/stylize", "/compare"):
        return "stylize"
    if path == "/jobs" or path.startswith("/jobs/"):
        return "jobs"
    if path == "/metrics":
        return "metrics"
    return None if method in SAFE else "admin"


class Gate:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.keys = Keys(Path(settings.keys)) if settings.keys else None
        self.origins = settings.listed("origins")
        self.rate = settings.rate
        self._rates = Rates()
        self.hosts = settings.listed("hosts")
        self.only_loopback = not self.hosts and is_loopback(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope.setdefault("state", {})["caller"] = self._enter(scope)
            except ImpastoError as error:
                await answer(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _enter(self, scope: Scope) -> Caller:
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        if path in HEALTH:
            return Caller(frozenset())
        names = [_hostname(host) for host in headers.getlist("host")]
        self._check_hosts(names)
        if method not in SAFE:
            self._check_origin(headers)
        key = None
        if self.keys:
            kind, _, presented = headers.get("authorization", "").partition(" ")
            key = self.keys.find(presented.strip()) if kind.lower() == "bearer" else None
        address = scope["client"][0] if scope.get("client") else ""
        if key:
            self._rates.take(f"key {key.name}", key.rate or self.rate)
        else:
            self._rates.take(network(address), self.rate)
        if self.keys:
            caller = Caller(key.scopes if key else frozenset(), key.name if key else None, keyed=True)
        else:
            proxied = any(map(headers.get, FORWARDED)) or scope["http_version"] == "1.0"  # nginx', unless told
            here = is_loopback(address) and all(map(is_loopback, names)) and not proxied
            caller = Caller(frozenset(SCOPES) if here else frozenset({"stylize", "jobs"}))
        scope_needed = needed(method, path)
        if scope_needed and not caller.may(scope_needed):
            raise denied(caller, scope_needed)
        return caller

    def _check_hosts(self, names: Iterable[str]) -> None:
        for name in names:
            # This machine's own names, which nobody can make point elsewhere, are always known.
            if is_loopback(name):
                continue
            known = not self.only_loopback and (not self.hosts or any(_matches(name, self.hosts)))
            if name and not known:
                raise Forbidden(
                    f"This service does not answer by the name {name[:80]!r}. Its owner can add that to IMPASTO_HOSTS."
                )

    def _check_origin(self, headers: Headers) -> None:
        """No page from elsewhere may change anything: a browser sends what its user never meant to."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        ours = site in ("same-origin", "none") if site else origin is None or _same(origin, headers.get("host", ""))
        if not ours and origin not in self.origins:
            raise Forbidden(
                f"This request comes from a page of another site ({(origin or 'unknown')[:80]}). "
                "The service's owner can let it in by IMPASTO_ORIGINS."
            )


def denied(caller: Caller, scope: str) -> ImpastoError:
    """The error for a caller who lacks a scope."""
    if not caller.keyed:
        return Forbidden(
            "This is answered only to the machine that the service runs on, by the name of localhost, "
            f"or where there are keys (IMPASTO_KEYS) to one with the scope {scope}."
        )
    if caller.name is None:
        return Unauthorized(
            "This needs a key of this service, as the header `Authorization: Bearer …`. Its owner gives them out."
        )
    return Forbidden(f"The key {caller.name} has not the scope that this needs: {scope}.", needed=scope)


class Rates:
    """Token buckets that hold a minute's worth. Is used on the event loop alone, and so needs no lock."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when that was

    def take(self, who: str, rate: int) -> None:
        """One request of `rate` a minute; 0 is no limit. Raises TooMany, with `retry_after` in seconds."""
        if not rate:
            return
        now = time.monotonic()
        left, then = self._left.pop(who, (float(rate), now))
        left = min(rate, left + (now - then) * rate / 60)
        self._left[who] = left - (left >= 1), now
        if len(self._left) > MOST_CLIENTS:
            self._left.popitem(last=False)
        if left < 1:
            seconds = ceil((1 - left) * 60 / rate)
            raise TooMany(
                f"More than {rate:,} requests a minute came from you: try again in {seconds} s.", retry_after=seconds
            )


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own. A name that was made to point here is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hostname(host: str) -> str:
    """example.org of example.org:8000, ::1 of [::1]:8000."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return host


def _matches(name: str, hosts: list[str]) -> Iterable[bool]:
    for host in hosts:
        yield host == "*" or name == host.lower() or (host.startswith("*.") and name.endswith(host[1:].lower()))


def _same(origin: str, host: str) -> bool:
    """Whether a page of that origin came from that host; both leave the usual port out."""
    return origin.partition("://")[2] == host != ""


def network(address: str) -> str:
    """The network of one client: an IPv4 address, or the /64 that an IPv6 household has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address
