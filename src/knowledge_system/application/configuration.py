"""Configuration as the doors use it: load, show, change, validate."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from knowledge_system import settings as reading
from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.errors import UsageError
from knowledge_system.storage.home import Home

if TYPE_CHECKING:
    from pathlib import Path

    from knowledge_system.application.system import KnowledgeSystem
    from knowledge_system.settings import Settings

load = reading.load
schema = reading.schema


def show(settings: Settings) -> dict[str, Any]:
    """Return the effective tree."""
    return reading.dump(settings.tree)


async def shown(system: KnowledgeSystem) -> dict[str, Any]:
    """Return the effective tree of an open system: with what was changed at run time, without secrets."""
    from knowledge_system.application.runtime_settings import without_secrets

    await system.parts.runtime().recall()
    return without_secrets(show(system.parts.settings))


def get(settings: Settings, key: str) -> object:
    """Return the effective value of a dotted key."""
    return reading.get(settings.tree, key)


def change(settings: Settings, key: str, text: str) -> dict[str, Any]:
    """Write `key` into the configuration file, after validating the whole; return the new effective value.

    The file is replaced atomically and stays private; a value that the environment overrides is said so.
    """
    raw = reading.with_value(reading.read_file(settings.config_file), key, text)
    _checked(raw, settings.config_file)
    _replace(settings.config_file, json.dumps(raw, indent=2, ensure_ascii=False) + "\n")
    effective = reading.load(settings.home, settings.config_file)
    return {"key": key, "value": reading.get(effective.tree, key), "file": str(settings.config_file)}


def is_served(settings: Settings) -> bool:
    """Tell whether a service runs on these settings' data: it read them when it was started."""
    return Home(settings.home, SystemClock()).service() is not None


def validate(path: Path) -> dict[str, Any]:
    """Validate a file. Raises UsageError naming every bad key."""
    _checked(reading.read_file(path, required=True), path)
    return {"valid": True, "file": str(path)}


def _checked(raw: dict[str, Any], path: Path) -> None:
    """Raise UsageError for what is no configuration, or names providers or strategies that do not exist."""
    from knowledge_system.application.provider_names import check_names

    check_names(reading.validate(raw, str(path)))


def _replace(path: Path, text: str) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a directory", hint="name a file with --config")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
