"""The addresses that a webhook may call, and the signature of a call: Standard Webhooks."""

import base64
import hmac
import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from impasto.core.errors import BadParameter

TRANSLATED = [ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "2001::/32")]
"""Networks of IPv6 with an IPv4 address inside, which a gateway would call: NAT64, IPv4-compatible and Teredo."""

CLOUD = {"168.63.129.16"}
"""Public addresses that lead inside all the same: Azure's, of its host."""


def check_url(url: str, private: bool = False) -> tuple[SplitResult, str]:
    """The parts of a URL, and the address to connect to: the one checked, whatever its name says a moment later.

    Raises BadParameter for what is no http(s) URL and for a host without address; unless `private` lets them, also for
    an address that leads inside and for a port under 1024 but 80 and 443.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise BadParameter(f"webhook: {url[:200]!r} is no URL: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadParameter(f"webhook: {url[:200]!r} is no http:// or https:// URL.")
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BadParameter(f"webhook: the host {parts.hostname!r} has no address: {error}.") from error
    addresses = [str(address[4][0]).split("%")[0] for address in found]
    for address in addresses:
        if not private and not _is_public(address):
            raise BadParameter(
                f"webhook: {parts.hostname} is {address}, a private address; IMPASTO_WEBHOOK_PRIVATE=1 allows such."
            )
    if not private and port not in (80, 443) and port < 1024:
        raise BadParameter(f"webhook: port {port} is another service's: use 80, 443, or one above 1023.")
    return parts, addresses[0]


def sign(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`: the header `webhook-signature`."""
    digest = hmac.digest(secret.encode(), f"{id}.{timestamp}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(digest).decode()


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.is_site_local or any(ip in network for network in TRANSLATED):
            return False
        ip = ip.ipv4_mapped or ip.sixtofour or ip
    return ip.is_global and not ip.is_multicast and str(ip) not in CLOUD
