"""Checks and cleans the address of a server and its API key: people paste them with blanks, slashes or newlines."""

from urllib.parse import urljoin, urlsplit

_PORTS = {"http": 80, "https": 443}


class Unusable(ValueError):
    """The text cannot be an address of a server, or an API key. The message never shows the key."""


def server_address(text: str) -> str:
    """The address in its standard form: `https://books.example` for `HTTPS://Books.example:443/`.

    Raises Unusable unless it is an http or https address of a host without a user, a query and a fragment.
    """
    objection = Unusable(f"--server must be an address such as https://books.example, not {text!r}.")
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise objection from error
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise objection
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port not in {None, _PORTS[parts.scheme]}:
        host += f":{port}"
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def why_redirected(asked: str, location: str) -> str:
    """What to do about a redirect. `asked`: the address of the request. `location`: that of the header."""
    target = urljoin(asked, location)
    here, there = urlsplit(asked), urlsplit(target)
    if target == asked:
        return (
            f"{asked} redirects to itself: the server does not know that the request came over HTTPS. "
            "Name its proxy in TRUSTED_PROXIES, and let the proxy set X-Forwarded-Proto."
        )
    if here.hostname == there.hostname and here.scheme != there.scheme:
        return f"{asked} is answered only over HTTPS. Use --server https://… with the address of the TLS proxy."
    return f"{asked} has moved. Try --server {there.scheme}://{there.netloc}."


def usable_key(text: str) -> str:
    """The API key without surrounding white space. Raises Unusable for a key that no header can carry."""
    key = text.strip()
    if not key or not all("!" <= character <= "~" for character in key):
        raise Unusable(
            "The API key is not valid: it is empty, or contains a blank, a line break or a character outside ASCII."
        )
    return key
