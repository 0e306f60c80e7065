"""Connect coding agents: their hooks and MCP server in, and out again without a trace."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system.agents.connections import Connection, Registry, apply, differences, state, take_back
from knowledge_system.agents.profiles import PROFILES, Place
from knowledge_system.application.residence import CONNECTIONS
from knowledge_system.domain.clock import SystemClock, to_public
from knowledge_system.domain.errors import NotFound, UsageError
from knowledge_system.settings import default_home
from knowledge_system.storage.home import Home

if TYPE_CHECKING:
    from knowledge_system.agents.profiles import Profile
    from knowledge_system.settings import Settings

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """Which agent, and where: a project's directory, or None for the user."""

    agent: str
    project: Path | None


def connect(settings: Settings, target: Target, *, dry_run: bool) -> Document:
    """Write an agent's configuration, or show the change. Raises UsageError for files that cannot be understood."""
    profile, place = _profile(target.agent), _place(settings, target)
    edits = profile.edits(place)
    document: Document = {"agent": profile.name, "scope": _scope(target), "note": profile.note}
    if dry_run:
        return {**document, "changed": [], "diff": differences(edits)}
    registry = _registry(settings)
    known = registry.find(profile.name, str(target.project or ""))
    files, changed = apply(edits, known)
    folders = tuple(str(place.user / one) for one in profile.transcripts)
    at = to_public(SystemClock().now())
    connection = Connection(profile.name, str(target.project or ""), place.executable, at, files, folders)
    registry.put(connection)
    return {**document, "changed": changed, "transcripts": list(folders)}


def disconnect(settings: Settings, target: Target, *, dry_run: bool) -> Document:
    """Take our part out of an agent's configuration. Raises NotFound when it was not connected."""
    profile, place = _profile(target.agent), _place(settings, target)
    registry = _registry(settings)
    known = registry.find(profile.name, str(target.project or ""))
    if known is None:
        raise NotFound(f"{profile.title} is not connected here", hint="`knowledge connect --list` shows what is")
    document: Document = {"agent": profile.name, "scope": _scope(target)}
    if dry_run:
        return {**document, "changed": [one.path for one in known.files]}
    changed = take_back(profile.edits(place), known)
    registry.drop(known)
    return {**document, "changed": changed}


def connections(settings: Settings) -> Document:
    """Return every known agent: whether it seems installed, where it is connected, and what drifted since."""
    registry = _registry(settings)
    rows = []
    for profile in PROFILES.values():
        own = [one for one in registry.all() if one.agent == profile.name]
        places = [_row(settings, profile, one) for one in own]
        installed = bool(profile.folder) and (Path.home() / profile.folder).is_dir()
        rows.append({"agent": profile.name, "title": profile.title, "installed": installed, "connections": places})
    return {"agents": rows}


def _row(settings: Settings, profile: Profile, connection: Connection) -> Document:
    project = Path(connection.project) if connection.project else None
    files = state(profile.edits(_place(settings, Target(profile.name, project))))
    runs = Path(connection.executable).exists()
    healthy = runs and set(files.values()) == {"connected"}
    return {
        "scope": "project" if project else "user",
        "project": connection.project,
        "since": connection.at,
        "state": "connected" if healthy else "drifted",
        "files": files,
        "executable": connection.executable,
        "executable_exists": runs,
    }


def _profile(name: str) -> Profile:
    if name not in PROFILES:
        raise UsageError(f"no agent is called {name}", hint=f"one of: {', '.join(PROFILES)}")
    return PROFILES[name]


def _place(settings: Settings, target: Target) -> Place:
    home = (
        None if settings.home == default_home().absolute() and not os.environ.get("KNOWLEDGE_HOME") else settings.home
    )
    return Place(Path.home(), target.project, executable(), str(home) if home else None)


def executable() -> str:
    """Return the absolute path of the `knowledge` command that is running, else the one that would be found."""
    beside = Path(sys.executable).with_name("knowledge")
    if beside.exists():
        return str(beside)
    found = shutil.which("knowledge")
    if found is None:
        raise NotFound("the `knowledge` command is not installed", hint="install the package, then connect again")
    return str(Path(found).absolute())


def _registry(settings: Settings) -> Registry:
    home = Home(settings.home, SystemClock())
    home.prepare()
    return Registry(home.path / CONNECTIONS)


def _scope(target: Target) -> str:
    return "project" if target.project else "user"
