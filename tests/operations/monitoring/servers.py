"""The monitoring programs that tests run: found, or loudly missing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "amtool": "prometheus-alertmanager",
    "alertmanager": "prometheus-alertmanager",
}


def program(name: str) -> str:
    """Return the path of a monitoring program; Debian calls Alertmanager `prometheus-alertmanager`."""
    found = shutil.which(name) or shutil.which(f"prometheus-{name}")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed: install it where CI=true")
        pytest.skip(f"MONITORING TESTS DO NOT RUN: {name} is not installed (apt-get install {PACKAGES[name]})")
    return found


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program(name), *map(str, arguments)], text=True, capture_output=True, check=False, timeout=120
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def installed(target: Path, token: str = "token") -> Path:
    """Copy `deploy/prometheus` with its secrets in place, as docs/monitoring.md installs it; return its folder."""
    folder = target / "prometheus"
    shutil.copytree(DEPLOY / "prometheus", folder)
    (folder / "secrets").mkdir()
    for secret in ("knowledge-token", "qdrant-api-key"):
        (folder / "secrets" / secret).write_text(token)
    return folder
