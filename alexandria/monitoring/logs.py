"""Logs: one JSON line for each event on stderr, or coloured lines when DEBUG is on. They never contain a key.

A line has a bound, whatever a request or an exception contains.
"""

import json
import re
import sys
from itertools import islice
from typing import Any

import structlog
from django.conf import settings

REDACTED = "<redacted>"
MIN_SECRET_LENGTH = 12
"""A shorter password of PostgreSQL or of the mail server can be a common word, so it is hidden only in addresses."""

MAX_TEXT = 2_000
"""Characters of a text in a line."""
MAX_TRACEBACK = 20_000
"""Characters of a traceback: its beginning, and most of all its end."""
MAX_ITEMS = 50
"""Of a list or a dictionary in a line."""
_LONGEST_SECRET = 500

_SECRET_NAME = re.compile(r"authorization|cookie|passw|secret|token|credential|api.?key", re.IGNORECASE)
_SECRETS_IN_TEXT = (
    # Authorization: Api-Key …, and other schemes
    (re.compile(r"\b(api-key|bearer)(\s+)[^\s'\"\\,;}]+", re.IGNORECASE), rf"\1\2{REDACTED}"),
    # password=…, "token": "…", also with escaped quotation marks
    (
        re.compile(
            r"((?:authorization|cookie|password|secret|token|api[-_]?key)[\\'\"]*\s*[:=]\s*[\\'\"]*)"
            r"(?!api-key|bearer)[^\s'\"\\,&;}]+",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
    # postgres://user:password@…
    (re.compile(r"://[^/\s@'\":]*+:[^/\s@'\"]++@"), f"://{REDACTED}@"),
    # one of our API keys. Its prefix is not secret but identifies its owner
    (re.compile(r"\b[A-Za-z0-9]{8}\.[A-Za-z0-9]{32,}"), REDACTED),
)

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def logging_config(*, debug: bool) -> dict[str, Any]:
    """Sets up structlog. Returns Django's LOGGING, which gives the standard library's loggers the same format."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderers: list[Any] = (
        # Plain tracebacks. Others print variables: these can hold keys, and printing a QuerySet runs a query.
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if debug
        else [structlog.processors.JSONRenderer()]
    )
    renderers = [without_secret_fields, structlog.processors.format_exc_info, bounded, *renderers, without_secrets]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
                "foreign_pre_chain": _SHARED,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {
            # The gateway logs each request, including retries.
            "httpx2": {"level": "WARNING"},
            "httpcore2": {"level": "WARNING"},
            # Crons and jobs log what they do. Celery would add four lines every two seconds.
            "celery.beat": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            "django_structlog.celery.receivers": {"level": "WARNING"},
            # gunicorn adds its own handler and format before it reads ours.
            "gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False},
            # The line "request_finished" has a client's error. Our own errors are logged with their traceback.
            "django.request": {"level": "ERROR"},
        },
    }


def without_secret_fields(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Processor, before the renderer: hides the values of fields with a secret name, at any depth."""
    return {name: _hidden(name, value) for name, value in event.items()}


def without_secrets(_logger: Any, _method: str, line: str) -> str:
    """Processor, after the renderer: hides our secrets and text that looks like one, also in exceptions."""
    for secret in _own_secrets():
        for plain in (repr(secret)[1:-1], secret):  # with and without quotation marks, and each in its JSON form
            line = line.replace(json.dumps(plain)[1:-1], REDACTED).replace(plain, REDACTED)
    for pattern, replacement in _SECRETS_IN_TEXT:
        line = pattern.sub(replacement, line)
    return line


def bounded(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Processor, before the renderer: shortens long texts and lists, at any depth, and the traceback."""
    traceback = event.pop("exception", None)
    event = {name: _short(value) for name, value in event.items()}
    if traceback is not None:
        short = "\n".join(_cut(line, MAX_TEXT) for line in traceback.split("\n"))  # so that the frames stay
        event["exception"] = _cut(short, MAX_TRACEBACK // 4, MAX_TRACEBACK * 3 // 4)
    return event


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return _cut(value, MAX_TEXT)
    if isinstance(value, dict):
        return {_cut(str(key), MAX_TEXT): _short(inner) for key, inner in islice(value.items(), MAX_ITEMS)}
    if isinstance(value, list | tuple | set | frozenset):
        return [_short(inner) for inner in islice(value, MAX_ITEMS)]
    return value if isinstance(value, int | float | bool | None) else _cut(repr(value), MAX_TEXT)


def _cut(text: str, first: int, last: int = 0) -> str:
    """The first and the last characters of a longer text. Secrets are hidden before, so that no part of one is left."""
    if len(text) <= first + last:
        return text
    head = without_secrets(None, "", text[: first + _LONGEST_SECRET])[:first]
    tail = without_secrets(None, "", text[-last - _LONGEST_SECRET :])[-last:] if last else ""
    return f"{head}… ({len(text):,} characters) …{tail}"


def _hidden(name: str, value: Any) -> Any:
    if _SECRET_NAME.search(name):  # null too: the search of the whole line would break the JSON
        return REDACTED
    if isinstance(value, dict):
        return {key: _hidden(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden("", inner) for inner in value]
    return value


def _own_secrets() -> list[str]:
    """The secrets of the settings. Empty before the settings are read."""
    if not settings.configured:
        return []
    passwords = [settings.DATABASES["default"].get("PASSWORD", ""), settings.EMAIL_HOST_PASSWORD]
    passwords = [each for each in passwords if len(each) >= MIN_SECRET_LENGTH]
    keys = (settings.ISBNDB_API_KEY, settings.METRICS_TOKEN, settings.SECRET_KEY)
    return [each for each in (*keys, *passwords) if each]
