"""The unit that keeps the service running."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.interfaces.conftest import Cli

from knowledge_system import settings
from knowledge_system.application.service_unit import unit
from knowledge_system.domain.errors import DependencyUnavailable


def test_installing_is_idempotent_and_uninstalling_removes_the_unit(cli: Cli) -> None:
    first = cli.json("service", "install", "--no-start")
    path = Path(first["unit"])
    assert path == cli.home.parent / ".config" / "systemd" / "user" / "knowledge-system.service"
    assert f"--home {cli.home} serve" in path.read_text()
    assert cli.json("service", "install", "--no-start")["changed"] is False
    assert cli.json("service", "status")["state"] == "installed"
    path.write_text(path.read_text().replace("RestartSec=5", "RestartSec=50"))
    assert cli.json("service", "status")["state"] == "differs"
    assert cli.json("service", "uninstall")["removed"] is True
    assert cli.json("service", "status")["state"] == "missing"
    assert cli.json("service", "uninstall")["removed"] is False


def test_where_the_service_manager_does_not_answer_it_says_what_to_run(cli: Cli) -> None:
    cli.environ["PATH"] = "/nonexistent"
    shown = cli.json("service", "install")
    assert shown["started"] is False
    assert "systemctl --user enable --now knowledge-system.service" in shown["run"]
    assert Path(shown["unit"]).exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(cli: Cli) -> None:
    path = cli.json("service", "install", "--no-start")["unit"]
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", path], capture_output=True, text=True, check=False, timeout=60
    )
    assert "knowledge-system.service:" not in done.stderr, done.stderr


def test_paths_with_blanks_and_percent_signs_are_kept(tmp_path: Path) -> None:
    home = tmp_path / "my 100% home"
    made = unit(settings.load(home, environ={}), "/opt/my tools/knowledge", "linux")
    assert f'"/opt/my tools/knowledge" --home "{str(home).replace("%", "%%")}" serve' in made.content


def test_launchd_gets_a_property_list(tmp_path: Path) -> None:
    made = unit(settings.load(tmp_path / "home", environ={}), "/opt/knowledge", "darwin")
    read = plistlib.loads(made.content.encode())
    assert read["ProgramArguments"] == ["/opt/knowledge", "--home", str(tmp_path / "home"), "serve"]
    with pytest.raises(DependencyUnavailable):
        unit(settings.load(tmp_path / "home", environ={}), "/opt/knowledge", "win32")
