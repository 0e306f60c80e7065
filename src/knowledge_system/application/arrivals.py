"""Exchanges that clients send: stored at once, learned from in the background."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.capture import by_itself
from knowledge_system.domain.events import CaptureFailed
from knowledge_system.domain.truth import SavedExchanges

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knowledge_system.application.system import KnowledgeSystem

Document = dict[str, Any]
FOLDER = "arrivals"
"""In the home: texts as they came, for as long as it takes to redact them."""


class Arrivals:
    """Takes documents of exchanges, one after the other."""

    def __init__(self, system: KnowledgeSystem) -> None:
        self._system = system
        self._storing = asyncio.Lock()
        self._fresh = asyncio.Event()
        self._learner: asyncio.Task[None] | None = None
        self._swept = False

    async def deliver(self, document: Mapping[str, Any]) -> Document:
        """Store the exchanges of a `knowledge-transcript/1` document behind those of its session that came before.

        The same document again stores nothing. Raises UsageError for a document that holds no exchange.
        """
        from knowledge_system.extraction.arriving import Delivery, arrive

        parts = self._system.parts
        parts.own()
        text = json.dumps(document, sort_keys=True, ensure_ascii=False)
        name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        head = document.get("session") or {}
        session = str(head.get("id") or f"http-{name[:16]}")
        place = f"http:{head.get('agent') or 'any'}/{session}"
        async with self._storing:
            folder = self._folder(parts.home().path / FOLDER)
            with tempfile.NamedTemporaryFile("w", suffix=".json", dir=folder, encoding="utf-8") as file:
                file.write(text)
                file.flush()
                delivery = Delivery(name, parts.clock.now(), place, session, Path(file.name))
                saved = await arrive(delivery, parts.reader(), parts.gatekeeper(), await parts.truth(), parts.emit)
        await self._system.index_words()
        if saved.new or saved.updated:
            self._learn_soon()
        known = len(saved.known) if saved != SavedExchanges() else len(document["exchanges"])
        return {
            "session_id": session,
            "exchanges": {"new": len(saved.new), "known": known, "updated": len(saved.updated)},
            "ids": [*saved.new, *saved.updated, *saved.known],
            "learning": "follows" if parts.settings.tree.learning.enabled else "off",
        }

    def _folder(self, path: Path) -> Path:
        """Return the folder for what is being stored; what a process that was killed left there is removed."""
        if not self._swept:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(mode=0o700, exist_ok=True)
            self._swept = True
        return path

    def _learn_soon(self) -> None:
        self._fresh.set()
        if self._learner is None:
            self._learner = asyncio.get_running_loop().create_task(self._learn(), name="learn-arrivals")
            self._system.parts.before_close(self._end)

    async def _learn(self) -> None:
        """Learn once no more arrives for a moment; what fails is learned with what arrives next."""
        from knowledge_system.extraction.learning import LearningTally

        parts = self._system.parts
        by_itself.set(True)
        while True:
            await self._fresh.wait()
            await asyncio.sleep(parts.settings.tree.capture.debounce / 1000)
            self._fresh.clear()
            try:
                with parts.tracer.trace("learn", interactive=False):
                    await self._system.learn(LearningTally())
            except Exception as error:  # noqa: BLE001 -- the edge of the worker: one bad exchange must not end it
                parts.emit(CaptureFailed("learn", f"{type(error).__name__}: {error}"))

    async def _end(self) -> None:
        if self._learner is not None:
            self._learner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._learner
