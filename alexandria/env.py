"""Typed readers of environment variables. A value that is not valid stops the start with a message that names it."""

import os
import re
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
"""The folder of `manage.py`, `.env` and `.data`."""

env = environ.Env()

_known = {
    # Not settings.py but a command, compose or a library reads these.
    "ALEXANDRIA_API_KEY",
    "ALEXANDRIA_DATA_DIR",
    "ALEXANDRIA_REFUSED_KEY",
    "ALEXANDRIA_VERSION",
    "FLOWER_BASIC_AUTH",
    "POSTGRES_PASSWORD",
}
_OURS = ("QUOTA_", "ISBNDB_", "ALERT_")
_LONG = 8  # characters; a short name resembles those of other programs by chance
_HOST = re.compile(r"\*|\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\]", re.IGNORECASE)
_MAILBOX = re.compile(r"[^\s@<>,]+@[^\s@<>,]+")


def read_dotenv(path: Path) -> None:
    """Adds the variables of the file, if there is one, to the environment. Variables that are set do not change."""
    if path.is_file():
        env.read_env(path, overwrite=False)


def text(name: str, default: str = "") -> str:
    _known.add(name)
    return os.environ.get(name, default).strip()


def flag(name: str, *, default: bool) -> bool:
    value = text(name)
    if not value:
        return default
    if value.lower() in {"1", "true", "yes", "on"}:
        return True
    if value.lower() in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} must be on or off, not {value!r}.")


def words(name: str, default: Sequence[str] = ()) -> list[str]:
    """A comma-separated list."""
    value = text(name)
    return [word.strip() for word in value.split(",") if word.strip()] if value else list(default)


def hosts(name: str, default: Sequence[str] = ()) -> list[str]:
    """Host names for ALLOWED_HOSTS: `books.example`, `.books.example`, `10.0.0.7`, `[::1]`, `*`."""
    names = words(name, default)
    if bad := [each for each in names if not _HOST.fullmatch(each)]:
        raise ImproperlyConfigured(f"{name} must be host names without scheme, port or path, not {bad}.")
    return names


def certificates(name: str) -> str:
    """The path of a file with certificates in PEM form. "" when it is not set."""
    path = text(name)
    if not path:
        os.environ.pop(name, None)  # OpenSSL reads it too, and takes an empty one for a file
        return ""
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # also of ssl
        raise ImproperlyConfigured(f"{name} must be a file with certificates (PEM), not {path!r}: {error}.") from None
    return path


def own_address(name: str, default: str) -> str:
    """Where a server listens, to be followed by `:port`: an IP address or a host name of this machine."""
    value = text(name) or default
    with suppress(ValueError):
        address = ip_address(value.strip("[]"))
        return f"[{address}]" if address.version == 6 else str(address)
    if not _HOST.fullmatch(value) or "*" in value:
        raise ImproperlyConfigured(f"{name} must be an address such as 127.0.0.1, 0.0.0.0 or ::, not {value!r}.")
    return value


def networks(name: str, default: Sequence[str]) -> list[IPv4Network | IPv6Network]:
    """IP addresses and networks: `127.0.0.1`, `10.0.0.0/8`, `::1`."""
    try:
        return [ip_network(word) for word in words(name, default)]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be IP addresses such as 10.0.0.7 or 10.0.0.0/8: {error}.") from None


def refuse_unknown() -> None:
    """Refuses variables that look like settings and are none. To be called when all settings are read."""
    for name in sorted(set(os.environ) - _known):
        similar = get_close_matches(name, [known for known in _known if len(known) >= _LONG], n=1, cutoff=0.87)
        if similar or name.startswith(_OURS):
            hint = f"Do you mean {similar[0]}?" if similar else "docs/settings.md has all settings."
            raise ImproperlyConfigured(f"{name} is set, but there is no such setting. {hint}")


def gone(name: str, *, instead: str) -> None:
    """Refuses a variable of an earlier release, which would have no effect."""
    if text(name):
        raise ImproperlyConfigured(f"{name} is gone. Set {instead} instead: docs/settings.md explains it.")


def integer(name: str, default: int, *, minimum: int, maximum: int) -> int:
    value = text(name)
    if not value:
        return default
    try:
        number = int(value)
    except ValueError:
        number = minimum - 1
    if not minimum <= number <= maximum:
        raise ImproperlyConfigured(f"{name} must be a whole number from {minimum} to {maximum}, not {value!r}.")
    return number


def optional_integer(name: str, *, minimum: int, maximum: int) -> int | None:
    """None when it is not set."""
    return integer(name, 0, minimum=minimum, maximum=maximum) if text(name) else None


def choice(name: str, default: str, choices: Sequence[str]) -> str:
    value = text(name, default) or default
    if value not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
    return value


def secret(name: str, *, min_length: int = 1) -> str:
    """A key for an HTTP header: printable ASCII without spaces. Empty when it is not set."""
    value = text(name)
    if value and not (value.isascii() and value.isprintable() and " " not in value and len(value) >= min_length):
        raise ImproperlyConfigured(f"{name} must have at least {min_length} printable ASCII characters and no spaces.")
    return value


def http_url(name: str, default: str) -> str:
    """An http(s) base address, without the trailing slash."""
    value = text(name) or default
    parts = urlsplit(value)
    if "@" in parts.netloc:  # it would replace our key in the header. The message does not repeat it
        raise ImproperlyConfigured(f"{name} must be an address without user:password@.")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ImproperlyConfigured(f"{name} must be an address such as https://api2.isbndb.com, not {value!r}.")
    return value.rstrip("/")


def email(name: str) -> dict[str, Any]:
    """Django's EMAIL_… settings from an smtp:// (plain), smtp+tls:// (STARTTLS) or smtp+ssl:// address.

    Empty when it is not set. Error messages do not repeat the password.
    """
    value = text(name)
    if not value:
        return {}
    try:
        parts = urlsplit(value)
        port, is_valid = parts.port, bool(parts.hostname) and parts.path in {"", "/"} and not parts.fragment
    except ValueError:
        is_valid = False
    if not is_valid or parts.scheme not in {"smtp", "smtp+tls", "smtp+ssl"}:
        hint = "Percent-encode characters such as # / : @ in user and password: # becomes %23."
        raise ImproperlyConfigured(f"{name} must be an address such as smtp+tls://user:password@host:587. {hint}")
    return {
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": port or {"smtp": 25, "smtp+tls": 587, "smtp+ssl": 465}[parts.scheme],
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": parts.scheme == "smtp+tls",
        "EMAIL_USE_SSL": parts.scheme == "smtp+ssl",
    }


def mailboxes(name: str) -> list[str]:
    """E-mail addresses, separated by commas."""
    found = words(name)
    if bad := [each for each in found if not _MAILBOX.fullmatch(each)]:
        raise ImproperlyConfigured(f"{name} must be e-mail addresses separated by commas, not {bad}.")
    return found


def postgres(name: str, default: Callable[[], str]) -> dict[str, Any]:
    """An entry of DATABASES from a postgres:// or postgresql:// address. Error messages do not repeat the password."""
    value = text(name) or default()
    example = "such as postgres://user:password@host:5432/name"
    if not value.startswith(("postgres://", "postgresql://")):
        raise ImproperlyConfigured(f"{name} must be an address {example}: the quota needs PostgreSQL's row locks.")
    try:
        database: dict[str, Any] = dict(environ.Env.db_url_config(value))
        malformed = bool(urlsplit(value).fragment)
    except Exception:  # noqa: BLE001 - any error of the parser; its message can contain the password
        malformed = True
    if malformed:
        hint = "Percent-encode characters such as # / : @ in user and password: # becomes %23."
        raise ImproperlyConfigured(f"{name} must be an address {example}. {hint}")
    if not database["NAME"]:
        raise ImproperlyConfigured(f"{name} must end with the name of the database, in an address {example}.")
    return database


def redis_url(name: str, default: Callable[[], str]) -> str:
    """The address of a Redis server, by network or by socket. Error messages do not repeat the password."""
    value = text(name) or default()
    try:
        parts = urlsplit(value)
        is_valid = bool(parts.path if parts.scheme == "unix" else parts.hostname and (parts.port or 1))
    except ValueError:
        is_valid = False
    if not is_valid or parts.scheme not in {"redis", "rediss", "unix"}:
        raise ImproperlyConfigured(
            f"{name} must be an address such as redis://host:6379/0, rediss://host:6379/0 or unix:///run/redis.sock?db=0."
        )
    return value
