"""Our API keys in the forms in which programs send a key to ISBNdb."""

from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from quota.authentication import ConsumerKeyAuthentication

SCHEMES = {"api-key", "bearer"}


class IsbndbKeyAuthentication(ConsumerKeyAuthentication):
    """The key stands in `X-API-Key`, or in `Authorization`: alone, as at ISBNdb, or after one of SCHEMES."""

    def key_of(self, request: Request) -> str | None:
        words = request.headers.get("X-API-Key", "").split() or request.headers.get("Authorization", "").split()
        match words:
            case []:
                return None
            case [key]:
                return key
            case [scheme, key] if scheme.lower() in SCHEMES:
                return key
        raise AuthenticationFailed("The Authorization header must be the API key alone.")
