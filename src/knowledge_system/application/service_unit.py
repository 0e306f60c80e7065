"""The unit that keeps the service running for one user: systemd on Linux, launchd on macOS."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system.agents.connections import read, write
from knowledge_system.domain.errors import DependencyUnavailable

if TYPE_CHECKING:
    from knowledge_system.settings import Settings

Document = dict[str, Any]
NAME = "knowledge-system"
LABEL = "org.knowledge-system.service"
_WITHIN = 20.0
"""Seconds that the service manager gets for one command."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The file of a unit, its content, and the commands that start and stop it."""

    path: Path
    content: str
    start: tuple[tuple[str, ...], ...]
    stop: tuple[tuple[str, ...], ...]


def unit(settings: Settings, executable: str, platform: str = sys.platform) -> Unit:
    """Return the unit for a platform. Raises DependencyUnavailable where there is neither systemd nor launchd."""
    arguments = [executable, "--home", str(settings.home), "serve"]
    if platform == "darwin":
        return _launchd(arguments, settings.home)
    if platform.startswith("linux"):
        return _systemd(arguments, settings.home)
    raise DependencyUnavailable(f"no service manager is known on {platform}", hint="run `knowledge serve` yourself")


def install(settings: Settings, executable: str, *, start: bool) -> Document:
    """Write the unit and start it where the service manager answers; says what is left to do where it does not."""
    made = unit(settings, executable)
    changed = read(made.path) != made.content
    if changed:
        write(made.path, made.content, mode=0o600)
    problem = _run(made.start) if start else "not started, as asked"
    left = "" if not problem else " && ".join(" ".join(command) for command in made.start)
    return {"unit": str(made.path), "changed": changed, "started": not problem, "problem": problem, "run": left}


def uninstall(settings: Settings, executable: str) -> Document:
    """Stop the service and remove its unit; harmless when there is none."""
    made = unit(settings, executable)
    known = made.path.exists()
    problem = _run(made.stop) if known else ""
    made.path.unlink(missing_ok=True)
    return {"unit": str(made.path), "removed": known, "problem": problem}


def state(settings: Settings, executable: str) -> Document:
    """Return whether the unit is there and is the one that would be written now."""
    made = unit(settings, executable)
    there = read(made.path)
    found = "missing" if there is None else "installed" if there == made.content else "differs"
    return {"unit": str(made.path), "state": found}


def _systemd(arguments: list[str], home: Path) -> Unit:
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"
    command = " ".join(_quoted(one) for one in arguments)
    content = f"""# Written by `knowledge service install`; `knowledge service uninstall` removes it.
[Unit]
Description=Knowledge learned from coding sessions
After=default.target

[Service]
ExecStart={command}
Restart=on-failure
RestartSec=5
KillSignal=SIGTERM
TimeoutStopSec=30
UMask=0077
NoNewPrivileges=yes
PrivateTmp=no
MemoryHigh=1G
MemoryMax=2G
TasksMax=200
Environment=PYTHONUNBUFFERED=1
EnvironmentFile=-{_quoted(str(home / "environment"))}

[Install]
WantedBy=default.target
"""
    control = ("systemctl", "--user")
    unit_name = f"{NAME}.service"
    start = ((*control, "daemon-reload"), (*control, "enable", "--now", unit_name))
    return Unit(folder / unit_name, content, start, ((*control, "disable", "--now", unit_name),))


def _launchd(arguments: list[str], home: Path) -> Unit:
    path = Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    content = plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": arguments,
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ProcessType": "Background",
            "Umask": 0o077,
            "StandardErrorPath": str(home / "service.log"),
            "StandardOutPath": str(home / "service.log"),
        }
    ).decode()
    return Unit(path, content, (("launchctl", "load", "-w", str(path)),), (("launchctl", "unload", "-w", str(path)),))


def _quoted(word: str) -> str:
    """Return a word as systemd reads it: percent signs doubled, quoted when it has blanks."""
    plain = word.replace("\\", "\\\\").replace("%", "%%").replace('"', '\\"')
    return f'"{plain}"' if any(sign.isspace() for sign in word) else plain


def _run(commands: tuple[tuple[str, ...], ...]) -> str:
    """Run commands of the service manager; return why it failed, empty when it did not."""
    for command in commands:
        if shutil.which(command[0]) is None:
            return f"{command[0]} is not installed"
        try:
            done = subprocess.run(  # noqa: S603 -- fixed commands of the service manager
                command, capture_output=True, text=True, check=False, timeout=_WITHIN
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{command[0]}: {error}"
        if done.returncode:
            return (done.stderr or done.stdout).strip()[:300] or f"{command[0]} failed"
    return ""
