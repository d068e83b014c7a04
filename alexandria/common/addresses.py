"""The addresses that webhooks may use: only public ones, unless ALERT_WEBHOOKS_TO_PRIVATE is on."""

import ipaddress
import socket

import httpx2
import structlog
from django.conf import settings

from alexandria.common.timeouts import Overdue, within

log = structlog.get_logger(__name__)

MAX_PORT = 65_535
MAX_LENGTH = 1000  # characters
MAX_SECONDS = 5.0
"""For the look-up of a host."""

_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
"""The public unicast addresses. IPv4 addresses written as IPv6 (mapped, NAT64) are outside of this range."""

_NOT_IN_V6 = [
    ipaddress.ip_network(network)
    for network in (
        "2001::/23",  # Teredo and other protocols
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: leads to an IPv4 address
        "3fff::/20",  # documentation
    )
]
_NOT_IN_V4 = [ipaddress.ip_network(network) for network in ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24")]


class AddressRefused(Exception):
    """Alexandria sends nothing to this address."""


def check_url(url: str, *, seconds: float = MAX_SECONDS) -> tuple[httpx2.URL, list[str]]:
    """The parsed address, and the IP addresses of its host that a request may use. Raises AddressRefused."""
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise AddressRefused("This is not an address. Use one such as https://hooks.example/alerts.") from error
    allowed = ["https", "http"] if settings.ALERT_WEBHOOKS_TO_PRIVATE else ["https"]
    if parsed.scheme not in allowed:
        beginnings = " or ".join(f"{scheme}://" for scheme in allowed)
        more = " (ALERT_WEBHOOKS_TO_PRIVATE=on allows http:// too)" if parsed.scheme == "http" else ""
        raise AddressRefused(f"The address must begin with {beginnings}{more}.")
    if parsed.userinfo:
        raise AddressRefused("The address must not contain user:password@.")
    if not parsed.host or parsed.fragment:
        raise AddressRefused("The address needs a host and must not contain #.")
    port = {"https": 443, "http": 80}[parsed.scheme] if parsed.port is None else parsed.port
    if not 1 <= port <= MAX_PORT:
        raise AddressRefused(f"The port must be from 1 to {MAX_PORT}.")
    return parsed, look_up(parsed.raw_host.decode(), port, seconds=seconds)


def host_of(url: str) -> str:
    """The part of an address that everybody may see: the rest can be secret. "" when it is not an address."""
    try:
        return httpx2.URL(url).host
    except (httpx2.InvalidURL, ValueError):
        return ""


def is_public(address: str) -> bool:
    """Whether this is a public IP address. Text that is no IP address is not public."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        return ip.scope_id is None and ip in _GLOBAL_V6 and not any(ip in network for network in _NOT_IN_V6)
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_IN_V4)


def look_up(host: str, port: int, *, seconds: float) -> list[str]:
    """The IP addresses of the host. All of them must be public.

    Raises AddressRefused, also when the host has no address or the look-up takes longer than `seconds`.
    """
    try:
        found = within(seconds, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except Overdue as error:
        raise AddressRefused(f"{host} could not be looked up within {seconds:.0f} s.") from error
    except (OSError, UnicodeError) as error:  # no such host, or not a valid name
        raise AddressRefused(f"{host} has no address.") from error
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    if not settings.ALERT_WEBHOOKS_TO_PRIVATE and not all(map(is_public, addresses)):
        log.warning("webhook.not_public", host=host, addresses=addresses)
        raise AddressRefused(f"{host} is not a public address (ALERT_WEBHOOKS_TO_PRIVATE allows others).")
    return addresses
