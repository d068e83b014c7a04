"""The headers by which a browser limits what our pages can do. Every answer has them, errors and redirects too."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from django.middleware.security import SecurityMiddleware

ADMIN = "/admin/"

_POLICY = (
    "default-src 'none'; script-src 'self'{eval}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
POLICY = _POLICY.format(eval="")
"""Scripts come from files of our own host only. There is no inline script, so no page needs a nonce."""
POLICY_OF_ADMIN = _POLICY.format(eval=" 'unsafe-eval'")
"""Alpine.js, which unfold uses, makes functions of the attributes of its elements. It needs no inline script either."""

PERMISSIONS = (
    "accelerometer=(), autoplay=(), camera=(), display-capture=(), fullscreen=(), geolocation=(), gyroscope=(), "
    "magnetometer=(), microphone=(), midi=(), payment=(), publickey-credentials-get=(), usb=()"
)


def security_headers(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """The outermost middleware. It also adds Django's own headers (HSTS and others) to answers that Django's lacks."""
    django = SecurityMiddleware(get_response)

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = django.process_response(request, get_response(request))  # type: ignore[arg-type]
        policy = POLICY_OF_ADMIN if request.path.startswith(ADMIN) else POLICY
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers.setdefault("Permissions-Policy", PERMISSIONS)
        return response

    return middleware
