"""Who a request comes from. Only the proxies of TRUSTED_PROXIES are believed what they say about their client."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

PROTOCOL = "HTTP_X_FORWARDED_PROTO"


def client_address(request: HttpRequest) -> IPv4Address | IPv6Address | None:
    """The IP address of the client. None if it is not known, as with a Unix socket.

    Each proxy adds the address of its own client on the right of `X-Forwarded-For`. So this is the right-most address
    that is no trusted proxy: what stands left of it can be made up.
    """
    address = _parsed(request.META.get("REMOTE_ADDR", ""))
    for text in reversed(request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")):
        if not _is_trusted(address) or (before := _parsed(text.strip())) is None:
            break
        address = before
    return address


def https_from_trusted_proxies(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware that leaves of `X-Forwarded-Proto` what a trusted proxy has added on the right; Django believes it."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        protocol = request.META.pop(PROTOCOL, "").rpartition(",")[2].strip()
        if _is_trusted(_parsed(request.META.get("REMOTE_ADDR", ""))):
            request.META[PROTOCOL] = protocol
        return get_response(request)

    return middleware


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _is_trusted(address: IPv4Address | IPv6Address | None) -> bool:
    return any(address in network for network in settings.TRUSTED_PROXIES) if address else False
