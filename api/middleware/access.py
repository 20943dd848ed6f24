"""Access control, before a body is read: the service's names, pages of other sites, the rate, and what a caller may."""

import hmac
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from impasto.api import admin_token
from impasto.api.errors import answer, flat
from impasto.api.keys import SCOPES, Keys
from impasto.core.errors import BadParameter, Forbidden, ImpastoError, TooMany, Unauthorized
from impasto.core.jobs.record import Job
from impasto.core.settings import Settings

HEALTH = ("/livez", "/readyz", "/readyz/jobs")
"""Asked by machines, often, by whatever name or address they know."""
SAFE = ("GET", "HEAD", "OPTIONS")
OPEN = frozenset({"stylize", "jobs"})
"""Scopes of everybody where there are no keys."""
MOST_QUERY = 4096
"""Bytes of a URL's query."""
MOST_CLIENTS = 10_000
"""Clients whose rate is remembered; the one longest silent is forgotten first."""

log = logging.getLogger("impasto")


@dataclass(frozen=True)
class Caller:
    """The sender of a request.

    With keys a caller may do what its key may, and sees the jobs of its key. Without keys everybody may paint and have
    jobs, whose ids are secrets.
    """

    scopes: frozenset[str]
    name: str | None = None
    keyed: bool = False
    client: str = ""
    """By which rates and places are shared out: the key, else the network."""

    def may(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def sees(self, job: Job) -> bool:
        return not self.keyed or self.may("admin") or job.owner == self.name


def needed(method: str, path: str) -> str | None:
    """Return the scope that a request needs; None for what describes the service."""
    if path in ("/stylize", "/compare"):
        return "stylize"
    if path == "/jobs" or path.startswith("/jobs/"):
        return "jobs"
    if path == "/metrics":
        return "metrics"
    return None if method in SAFE else "admin"


class Access:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.keys = Keys(Path(settings.keys)) if settings.keys else None
        self.admin = None if self.keys else admin_token.open_token(settings.cache_folder)
        self.origins = settings.listed("origins")
        self.rate = settings.rate
        self._rates = Rates()
        self.hosts = settings.listed("hosts")
        self.only_loopback = not self.hosts and is_loopback(settings.host)
        self._log_admin(settings)

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
        if (length := len(scope["query_string"])) > MOST_QUERY:
            raise BadParameter(f"The query of the URL has {length:,} bytes. At most {MOST_QUERY:,} are allowed.")
        self._check_hosts(_hostname(host) for host in headers.getlist("host"))
        if method not in SAFE:
            self._check_origin(headers)
        caller = self._caller(headers, scope["client"][0] if scope.get("client") else "")
        scope_needed = needed(method, path)
        if scope_needed and not caller.may(scope_needed) and _has_route(scope):
            raise denied(caller, scope_needed)
        return caller

    def _caller(self, headers: Headers, address: str) -> Caller:
        """The caller by its key, or by the admin's token. Raises TooMany."""
        kind, _, presented = headers.get("authorization", "").partition(" ")
        presented = presented.strip() if kind.lower() == "bearer" else ""
        key = self.keys.find(presented) if self.keys else None
        client = f"key {key.name}" if key else network(address)
        self._rates.take(client, (key and key.rate) or self.rate)
        if self.keys:
            return Caller(key.scopes if key else frozenset(), key.name if key else None, keyed=True, client=client)
        admin = self.admin and hmac.compare_digest(presented.encode(), self.admin.encode())
        return Caller(frozenset(SCOPES) if admin else OPEN, client=client)

    def _check_hosts(self, names: Iterable[str]) -> None:
        for name in names:
            # Nobody can make the names of this machine point elsewhere: they are always known.
            if is_loopback(name):
                continue
            known = not self.only_loopback and (not self.hosts or any(_matches(name, self.hosts)))
            if name and not known:
                raise Forbidden(
                    f"This service does not answer by the name {name[:80]!r}. Its owner can add that to IMPASTO_HOSTS."
                )

    def _check_origin(self, headers: Headers) -> None:
        """Raises Forbidden for a page of another site: a browser sends what its user never meant to."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        ours = site in ("same-origin", "none") if site else origin is None or _same(origin, headers.get("host", ""))
        if not ours and origin not in self.origins:
            raise Forbidden(
                f"This request comes from a page of another site ({(origin or 'unknown')[:80]}). "
                "The service's owner can allow that by IMPASTO_ORIGINS."
            )

    def _log_admin(self, settings: Settings) -> None:
        """Say at the start who the admin is."""
        if self.keys:
            log.info("The admin is whoever has a key with the scope admin, of %s.", self.keys.path)
        elif self.admin:
            path = settings.cache_folder / admin_token.NAME
            log.info("There are no keys. The admin is whoever has the token in %s, as `impasto jobs` does.", path)
        else:
            log.warning(
                "There are no keys, and no token can be kept in %s: nobody is the admin. Set IMPASTO_CACHE to a folder "
                "that the service can write to.",
                settings.cache_folder,
            )


def _has_route(scope: Scope) -> bool:
    """Whether a route would take the request. The router answers all others with 404 or 405, whoever asks."""
    routes = (route for route in flat(scope["app"].routes) if isinstance(route, Route))
    return any(route.matches(scope)[0] is Match.FULL for route in routes)


def denied(caller: Caller, scope: str) -> ImpastoError:
    """The error for a caller who lacks a scope."""
    if not caller.keyed:
        return Forbidden(
            "This is for the admin, who has the token in the service's folder IMPASTO_CACHE; `impasto jobs` reads it "
            f"there by itself. A service with keys (IMPASTO_KEYS) takes a key with the scope {scope} instead."
        )
    if caller.name is None:
        return Unauthorized(
            "This needs a key of this service, as the header `Authorization: Bearer …`. Its owner gives them out."
        )
    return Forbidden(f"The key {caller.name} does not have the scope {scope}, which this needs.", needed=scope)


class Rates:
    """Token buckets that hold a minute's worth. Used on the event loop alone, and so without a lock."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when that was

    def take(self, who: str, rate: int) -> None:
        """Count one request of `rate` a minute; 0 is no limit. Raises TooMany, with `retry_after` in seconds."""
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
                f"You sent more than {rate:,} requests a minute: try again in {seconds} s.", retry_after=seconds
            )


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own. Another name that points here is not."""
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
    """Whether a page of `origin` came from `host`; both leave the usual port out."""
    return origin.partition("://")[2] == host != ""


def network(address: str) -> str:
    """The network of one client: an IPv4 address, or the /64 that an IPv6 household has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:  # as a socket for both versions has it
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
