"""Starts the processes of compose.yaml with the commands of that file, on the servers of the test."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import httpx2
import trustme
import yaml

from alexandria.env import BASE_DIR

COMPOSE: dict[str, Any] = yaml.safe_load((BASE_DIR / "compose.yaml").read_text())
SECONDS_TO_END = 30
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")


def filled_in(text: str, environment: Mapping[str, str]) -> str:
    """Replaces ${NAME:-default} and ${NAME:?message} as Compose does, and $$ with $."""
    names = r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)\}"
    return re.sub(names, lambda found: environment.get(found[1]) or found[2] or "", text).replace("$$", "$")


def copy_what_runs(folder: Path) -> None:
    """Copies into the folder what .dockerignore permits."""
    ignored = (BASE_DIR / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*", "only the named files"
    for name in [line[1:] for line in ignored if line.startswith("!")]:
        if (BASE_DIR / name).is_dir():
            shutil.copytree(BASE_DIR / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(BASE_DIR / name, folder / name)


def lines_in_docs(name: str) -> str:
    """The block of code that begins with ``` and these words in docs/deploy.md."""
    text = (BASE_DIR / "docs" / "deploy.md").read_text()
    found = re.search(rf"^ *```{name}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def nginx_configuration(folder: Path, ca: trustme.CA, *, port: int, web: int) -> Path:
    """The server of docs/deploy.md, with the ports and the certificate of a test. They are written into `folder`."""
    certificate = ca.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    server = lines_in_docs("nginx")
    for shown, here in {
        "443 ssl": f"127.0.0.1:{port} ssl",
        "server_name books.example": "server_name localhost",
        "/etc/ssl/books.example.pem": str(folder / "cert.pem"),
        "/etc/ssl/books.example.key": str(folder / "key.pem"),
        "127.0.0.1:8000": f"127.0.0.1:{web}",
    }.items():
        assert shown in server, shown
        server = server.replace(shown, here)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off;\n{temporary}{server}}}\n"
    )
    return path


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def is_listening(port: int, address: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def until(holds: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def shell(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, with the programs of this interpreter first in PATH, as in the image."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**environment, "PATH": programs, "HOSTNAME": socket.gethostname()}


def shell_for_docs(environment: Mapping[str, str], folder: Path, *programs: Path) -> dict[str, str]:
    """The environment for the commands of the docs: `manage.py` is a command, and PATH has `programs`."""
    command = folder / "bin" / "manage.py"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {BASE_DIR}/manage.py "$@"\n')
    command.chmod(0o755)
    found = shell(environment)
    return found | {"PATH": os.pathsep.join([str(command.parent), *map(str, programs), found["PATH"]])}


@contextmanager
def process(name: str, environment: Mapping[str, str], folder: Path = BASE_DIR) -> Iterator["subprocess.Popen[str]"]:
    """Runs a service of compose.yaml until the block ends. Prints its output when the block fails."""
    command = COMPOSE["services"][name]["command"]
    words = ["sh", "-c", f"exec {command}"] if isinstance(command, str) else command
    words = [filled_in(word, environment) for word in words]
    with (
        TemporaryFile("w+") as output,  # a pipe that nobody reads would be full some day, and the service would stand
        subprocess.Popen(
            words, cwd=folder, env=shell(environment), stdout=output, stderr=subprocess.STDOUT, text=True
        ) as running,
    ):
        try:
            yield running
        except BaseException:
            running.kill()
            output.seek(0)
            sys.stderr.write(f"{name}: {output.read()}")
            raise
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(timeout=SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            running.kill()


def passes_its_health_check(name: str, environment: Mapping[str, str], folder: Path = BASE_DIR) -> bool:
    _, check = COMPOSE["services"][name]["healthcheck"]["test"]
    command = ["sh", "-c", filled_in(check, environment)]
    return subprocess.run(command, cwd=folder, env=shell(environment), capture_output=True, check=False).returncode == 0


@contextmanager
def serving(*names: str, environment: Mapping[str, str]) -> Iterator[httpx2.Client]:
    """Runs `web` and other services of compose.yaml. Yields a client of web when it answers."""
    port = str(unused_port())
    environment = {**environment, "BIND": "127.0.0.1", "PORT": port}
    with ExitStack() as stack:
        for name in ("web", *names):
            stack.enter_context(process(name, environment))
        client = stack.enter_context(httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60))
        until(lambda: answers(client))
        yield client


def answers(client: httpx2.Client) -> bool:
    try:
        return bool(client.get("/livez").status_code == 200)
    except httpx2.ConnectError:
        return False


def run(environment: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command of manage.py and returns it with its output."""
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def account_of(path: Path) -> dict[str, Any]:
    """Arguments of subprocess for programs that refuse root: the owner of `path`, or nobody."""
    if os.geteuid() != 0:
        return {}
    owner = path.stat()
    return {"user": owner.st_uid or 65534, "group": owner.st_gid or 65534, "extra_groups": []}
