"""Typed readers of environment variables that refuse nonsense and name the variable."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()


def read_dotenv(path: Path) -> None:
    """Adds the variables of the file `path` to the environment, where they are not set; no file, no change."""
    if path.is_file():
        env.read_env(path, overwrite=False)


def text(name: str, default: str = "") -> str:
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


def choice(name: str, default: str, choices: Sequence[str]) -> str:
    value = text(name, default) or default
    if value not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
    return value


def secret(name: str, *, shortest: int = 1) -> str:
    """A key or the like: printable ASCII without spaces, as an HTTP header takes it; "" when it is not set."""
    value = text(name)
    if value and not (value.isascii() and value.isprintable() and " " not in value and len(value) >= shortest):
        raise ImproperlyConfigured(f"{name} must be {shortest} or more printable ASCII characters without a space.")
    return value


def http_url(name: str, default: str) -> str:
    """An http(s) base address, without the trailing slash."""
    value = text(name) or default
    parts = urlsplit(value)
    if "@" in parts.netloc:  # it would take the place of our key in the header; and it is not repeated here
        raise ImproperlyConfigured(f"{name} must be an address without user:password@.")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ImproperlyConfigured(f"{name} must be an address such as https://api2.isbndb.com, not {value!r}.")
    return value.rstrip("/")
