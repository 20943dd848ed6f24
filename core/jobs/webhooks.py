"""Webhooks: the URLs and addresses that may be called, and the secret that signs a call (Standard Webhooks)."""

import base64
import hmac
import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from impasto.core.errors import BadParameter

MAX_URL = 2048
"""Characters of a URL. It stands in the record of the job."""

PREFIX = "whsec_"
"""Begins a secret whose key is base64."""

TRANSLATED = [ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "2001::/32")]
"""Networks of IPv6 that have an IPv4 address inside, which a gateway would call: NAT64, IPv4-compatible, Teredo."""

CLOUD = {"168.63.129.16"}
"""Public addresses that lead inside all the same: Azure's, of its host."""


def check_url(url: str, private: bool = False) -> None:
    """Refuse a URL that cannot be called, before a job is taken on.

    Raises BadParameter for text that is not an http(s) URL and for a host without an address. Unless `private`, also
    for what `check_address` refuses: any address of the host will do.
    """
    parts, port = _parsed(url)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BadParameter(f"webhook: the host {parts.hostname!r} has no address: {error}.") from error
    if not private:
        for address in found:
            check_address(str(address[4][0]), port)


def check_address(address: str, port: int) -> None:
    """Refuse a private address, and a port below 1024 other than 80 and 443. Raises BadParameter."""
    if not _is_public(address.split("%")[0]):
        raise BadParameter(f"webhook: {address} is a private address. IMPASTO_WEBHOOK_PRIVATE=true allows such.")
    if port not in (80, 443) and port < 1024:
        raise BadParameter(f"webhook: port {port} belongs to another service. Use 80, 443, or a port above 1023.")


def webhook_secret(service: str, key: str | None = None) -> str:
    """The secret, `whsec_` and base64, that signs the calls for jobs of a key; without a key, the service's own.

    `service` is IMPASTO_WEBHOOK_SECRET: `whsec_` and base64, or text whose bytes are taken. A key's secret is the
    HMAC-SHA256 of its name. Whoever has one of these secrets can compute no other.
    """
    text = service.removeprefix(PREFIX)
    secret = base64.b64decode(text + "==") if service.startswith(PREFIX) else text.encode()
    if key is not None:  # no call is signed with this text: it begins with the id of a job, which is hexadecimal
        secret = hmac.digest(secret, f"webhooks of the key {key}".encode(), "sha256")
    return PREFIX + base64.b64encode(secret).decode()


def host_of(url: str) -> str:
    """The host that a URL names; nothing for text that is not a URL."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _parsed(url: str) -> tuple[SplitResult, int]:
    """The parts of a URL, and its port. Raises BadParameter."""
    if len(url) > MAX_URL:
        raise BadParameter(f"webhook: the URL has {len(url):,} characters. At most {MAX_URL:,} are allowed.")
    shown = repr(url[:200])
    if not url.isprintable() or " " in url:  # urlsplit leaves tabs and line breaks out
        raise BadParameter(f"webhook: {shown} is not a URL: encode its spaces and control characters.")
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise BadParameter(f"webhook: {shown} is not a URL: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadParameter(f"webhook: {shown} is not an http:// or https:// URL.")
    return parts, port


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.is_site_local or any(ip in network for network in TRANSLATED):
            return False
        ip = ip.ipv4_mapped or ip.sixtofour or ip
    return ip.is_global and not ip.is_multicast and str(ip) not in CLOUD
