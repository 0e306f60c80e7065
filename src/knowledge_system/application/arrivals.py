"""Exchanges that clients send: stored at once, learned from in the background."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.capture import by_itself
from knowledge_system.domain.events import CaptureFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knowledge_system.application.compose import Parts
    from knowledge_system.application.system import KnowledgeSystem
    from knowledge_system.domain.capture import Notice
    from knowledge_system.domain.truth import SavedExchanges
    from knowledge_system.extraction.arriving import Arrived, Delivery

Document = dict[str, Any]


async def store(parts: Parts, delivery: Delivery, document: Mapping[str, Any]) -> Arrived:
    """Store the exchanges of a document; its text is on disk, as it came, for as long as it takes to redact it."""
    from knowledge_system.extraction.arriving import arrive, written

    folder = parts.home().arrivals
    folder.mkdir(mode=0o700, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".json", dir=folder, encoding="utf-8") as file:
        file.write(written(document))
        file.flush()
        means = parts.reader(), parts.gatekeeper(), await parts.truth()
        return await arrive(delivery, Path(file.name), means, parts.emit)


async def store_body(parts: Parts, notice: Notice) -> SavedExchanges:
    """Store the exchanges that a hook's notice carries, once."""
    from knowledge_system.extraction.arriving import Delivery

    parts.own()
    delivery = Delivery(notice.name, notice.at, f"hook:{notice.agent}/", notice.session_id)
    return (await store(parts, delivery, notice.body or {})).saved


class Arrivals:
    """Takes documents of exchanges, one after the other."""

    def __init__(self, system: KnowledgeSystem) -> None:
        self._system = system
        self._storing = asyncio.Lock()
        self._fresh = asyncio.Event()
        self._learner: asyncio.Task[None] | None = None

    async def deliver(self, document: Mapping[str, Any]) -> Document:
        """Store the exchanges of a `knowledge-transcript/1` document behind those of its session that came before.

        What came before is known, also inside a longer document or another window of the session; what has grown is
        updated. A document without a session's id goes on that session which begins as it does.
        Raises UsageError for a document that holds no exchange.
        """
        from knowledge_system.extraction.arriving import Delivery

        parts = self._system.parts
        parts.own()
        text = json.dumps(document, sort_keys=True, ensure_ascii=False)
        name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        head = document.get("session") or {}
        door, session = f"http:{head.get('agent') or 'any'}/", str(head.get("id") or "")
        async with self._storing:
            arrived = await store(parts, Delivery(name, parts.clock.now(), door, session), document)
        await self._system.index_words()
        saved = arrived.saved
        if saved.new or saved.updated:
            self._learn_soon()
        known = len(document["exchanges"]) if arrived.again else len(saved.known)
        return {
            "session_id": arrived.session_id,
            "exchanges": {"new": len(saved.new), "known": known, "updated": len(saved.updated)},
            "ids": [*saved.new, *saved.updated, *saved.known],
            "learning": "follows" if parts.settings.tree.learning.enabled else "off",
        }

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
