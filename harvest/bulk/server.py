"""Where a server of ours is and the key to it, as people give them: pasted, with a blank, a slash or a newline."""

from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


class Unusable(ValueError):
    """That can be no address of a server, or no API key. The message never shows the key."""


def server_address(text: str) -> str:
    """The address in the one form that all its spellings share: `https://books.example` of `HTTPS://Books.example:443/`.

    Raises Unusable for what is no http or https address of a host, or has a user, a query or a fragment.
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


def usable_key(text: str) -> str:
    """The API key without the white space around it. Raises Unusable for what no header can carry."""
    key = text.strip()
    if not key or not all("!" <= character <= "~" for character in key):
        raise Unusable("That is no API key: it is empty, or has a blank, a line's end or a letter beyond ASCII in it.")
    return key
