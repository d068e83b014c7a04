"""Logs: one JSON line an event on stderr, or coloured lines for people when DEBUG is on. No key ever stands in one."""

import json
import re
import sys
from typing import Any

import structlog
from django.conf import settings

REDACTED = "<redacted>"
SHORT = 12
"""Characters. A password, of PostgreSQL or for mail, that is shorter may be a word that stands everywhere: it is hidden
in addresses."""

_SECRET_NAME = re.compile(r"authorization|cookie|passw|secret|token|credential|api.?key", re.IGNORECASE)
_SECRETS_IN_TEXT = (
    # Authorization: Api-Key …, and whatever else may stand in that header
    (re.compile(r"\b(api-key|bearer)(\s+)[^\s'\"\\,;}]+", re.IGNORECASE), rf"\1\2{REDACTED}"),
    # password=…, "token": "…", also where a quotation mark is escaped once more
    (
        re.compile(
            r"((?:authorization|cookie|password|secret|token|api[-_]?key)[\\'\"]*\s*[:=]\s*[\\'\"]*)"
            r"(?!api-key|bearer)[^\s'\"\\,&;}]+",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
    # postgres://user:password@…
    (re.compile(r"://[^/\s@'\"]*:[^/\s@'\"]+@"), f"://{REDACTED}@"),
    # a key of ours, whose prefix is no secret by itself but tells whose it is
    (re.compile(r"\b[A-Za-z0-9]{8}\.[A-Za-z0-9]{32,}"), REDACTED),
)

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def logging_config(*, debug: bool) -> dict[str, Any]:
    """Sets up structlog and returns Django's LOGGING, in which the standard library's loggers take the same form."""
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
        # Plain tracebacks: others show the variables, keys among them, and a QuerySet asks the database to be shown.
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if debug
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    renderers = [without_secret_fields, *renderers, without_secrets]
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
            # The gateway has a line for each call, retries included.
            "httpx2": {"level": "WARNING"},
            "httpcore2": {"level": "WARNING"},
            "stamina": {"level": "ERROR"},
            # Crons and jobs say themselves what they did; a tick every two seconds need not say it four times more.
            "celery.beat": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            "django_structlog.celery.receivers": {"level": "WARNING"},
            # gunicorn hangs its own handler and form on it, before it reads ours.
            "gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False},
            # A client's mistake is in the line "request_finished"; one of ours is an error, with its traceback.
            "django.request": {"level": "ERROR"},
        },
    }


def without_secret_fields(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Processor, before the renderer: hides the values of fields that are secret by their name, however deep."""
    return {name: _hidden(name, value) for name, value in event.items()}


def without_secrets(_logger: Any, _method: str, line: str) -> str:
    """Processor, after the renderer: hides what is a secret by its form or is one of ours, exceptions included."""
    for secret in _own_secrets():
        for plain in (repr(secret)[1:-1], secret):  # in quotation marks or not, and either as JSON has it
            line = line.replace(json.dumps(plain)[1:-1], REDACTED).replace(plain, REDACTED)
    for pattern, replacement in _SECRETS_IN_TEXT:
        line = pattern.sub(replacement, line)
    return line


def _hidden(name: str, value: Any) -> Any:
    if _SECRET_NAME.search(name):  # null too: the search of the whole line would leave no JSON of it
        return REDACTED
    if isinstance(value, dict):
        return {key: _hidden(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden("", inner) for inner in value]
    return value


def _own_secrets() -> list[str]:
    """Those of the settings, as they are by now; none before the settings are read."""
    if not settings.configured:
        return []
    passwords = [settings.DATABASES["default"].get("PASSWORD", ""), settings.EMAIL_HOST_PASSWORD]
    passwords = [each for each in passwords if len(each) >= SHORT]
    keys = (settings.ISBNDB_API_KEY, settings.METRICS_TOKEN, settings.SECRET_KEY)
    return [each for each in (*keys, *passwords) if each]
