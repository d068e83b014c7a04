"""Clients that openapi-python-client makes from an OpenAPI file."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def generated(file: Path, package: str, monkeypatch: pytest.MonkeyPatch, *options: str) -> Any:
    """The package that is made from the file, beside it, and imported. `options`: more of openapi-python-client's."""
    config = file.with_name("config.yaml")
    config.write_text("post_hooks: []\n")
    made = subprocess.run(
        [
            Path(sys.executable).with_name("openapi-python-client"),
            "generate",
            "--meta=none",
            f"--path={file}",
            f"--config={config}",
            f"--output-path={file.with_name(package)}",
            *options,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    monkeypatch.syspath_prepend(file.parent)
    return importlib.import_module(package)
