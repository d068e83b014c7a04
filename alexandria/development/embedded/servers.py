"""PostgreSQL and Redis out of their PyPI wheels, for development, the demo and the tests.

Production needs neither wheel. Both listen on a unix socket alone, in a folder that is private to the user; PostgreSQL
wants a password besides. Data is kept between runs. All of it is in `$ALEXANDRIA_DATA_DIR`, by default `.data`:

    password            what PostgreSQL asks of its clients
    start.lock          held while somebody starts or stops a service
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
    """What `status()` tells of one service; `address` is what clients connect with, but for the password."""

    service: str
    running: bool
    address: str
    log: str


def data_dir() -> Path:
    """The folder that holds everything, from the environment; it need not exist yet."""
    return (BASE_DIR / (env.text("ALEXANDRIA_DATA_DIR") or DEFAULT_DATA_DIR)).resolve()


def database_url(folder: Path | None = None) -> str:
    """The address of the embedded PostgreSQL, as DATABASE_URL takes it. Starts nothing, but makes the password."""
    return Postgres(folder or data_dir()).url()


def redis_url(folder: Path | None = None) -> str:
    """The address of the embedded Redis, as REDIS_URL takes it. Starts nothing."""
    return Redis(folder or data_dir()).url()


def start(services: Collection[str] = tuple(VARIABLES), folder: Path | None = None) -> list[str]:
    """Starts those of `services` ("postgres", "redis") that do not run, waits for their answer, returns their names.

    Takes milliseconds when all run. Raises EmbeddedError, with the end of the log, when one cannot start.
    """
    return [service.name for service in _all(folder) if service.name in services and service.start()]


def stop(services: Collection[str] = tuple(VARIABLES), folder: Path | None = None) -> list[str]:
    """Stops those of `services` that run, waits for their end, and returns their names. Raises EmbeddedError."""
    return [service.name for service in _all(folder) if service.name in services and service.stop()]


def status(folder: Path | None = None) -> list[Status]:
    """Whether each service answers, and where. Starts nothing."""
    return [Status(each.name, each.answers(), each.address(), str(each.log)) for each in _all(folder)]


def start_unless_configured() -> list[str]:
    """Like `start`, for those services whose address is neither in the environment nor in `.env`."""
    env.read_dotenv(BASE_DIR / ".env")
    return start([service for service, variable in VARIABLES.items() if not env.text(variable)])


def _all(folder: Path | None) -> list[Postgres | Redis]:
    folder = folder or data_dir()
    return [Postgres(folder), Redis(folder)]
