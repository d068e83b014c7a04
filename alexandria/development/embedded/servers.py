"""PostgreSQL and Redis from PyPI wheels, for development, the demo and the tests. Production does not need them.

Both listen only on a unix socket, in a folder that is private to the user. PostgreSQL also requires a password. The
data stays between runs. Everything is in `$ALEXANDRIA_DATA_DIR`, by default `.data`:

    password            the password of PostgreSQL
    start.lock          locked while a service starts or stops
    postgres/           alive.lock, log, data/, the socket
    redis/              alive.lock, log, the append-only file, the socket
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from alexandria import env
from alexandria.development.embedded.files import EmbeddedError, kept_secret, private_folder
from alexandria.development.embedded.postgres import Postgres
from alexandria.development.embedded.redis import Redis
from alexandria.env import BASE_DIR

__all__ = [
    "DEFAULT_DATA_DIR",
    "VARIABLES",
    "EmbeddedError",
    "Status",
    "data_dir",
    "database_url",
    "kept_secret",
    "private_folder",
    "redis_url",
    "start",
    "start_unless_configured",
    "status",
    "stop",
]

DEFAULT_DATA_DIR = BASE_DIR / ".data"
VARIABLES = {service.name: service.variable for service in (Postgres, Redis)}


@dataclass(frozen=True)
class Status:
    """The state of one service. `address` is its URL without the password."""

    service: str
    running: bool
    address: str
    log: str


def data_dir() -> Path:
    """The data folder, from the environment. It does not have to exist."""
    return (BASE_DIR / (env.text("ALEXANDRIA_DATA_DIR") or DEFAULT_DATA_DIR)).resolve()


def database_url(folder: Path | None = None) -> str:
    """The DATABASE_URL of the embedded PostgreSQL. Starts nothing, but creates the password."""
    return Postgres(folder or data_dir()).url()


def redis_url(folder: Path | None = None) -> str:
    """The REDIS_URL of the embedded Redis. Starts nothing."""
    return Redis(folder or data_dir()).url()


def start(services: Collection[str] = tuple(VARIABLES), folder: Path | None = None) -> list[str]:
    """Starts the `services` ("postgres", "redis") that do not run and waits until they answer. Returns their names.

    Takes milliseconds if all are running. Raises EmbeddedError with the end of the log if one cannot start.
    """
    return [service.name for service in _all(folder) if service.name in services and service.start()]


def stop(services: Collection[str] = tuple(VARIABLES), folder: Path | None = None) -> list[str]:
    """Stops the `services` that run and waits for their end. Returns their names. Raises EmbeddedError."""
    return [service.name for service in _all(folder) if service.name in services and service.stop()]


def status(folder: Path | None = None) -> list[Status]:
    """The state of each service. Starts nothing."""
    return [Status(each.name, each.answers(), each.address(), str(each.log)) for each in _all(folder)]


def start_unless_configured() -> list[str]:
    """Starts the services whose URL is set neither in the environment nor in `.env`."""
    env.read_dotenv(BASE_DIR / ".env")
    return start([service for service, variable in VARIABLES.items() if not env.text(variable)])


def _all(folder: Path | None) -> list[Postgres | Redis]:
    folder = folder or data_dir()
    return [Postgres(folder), Redis(folder)]
