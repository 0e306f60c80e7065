"""One of several processes that deliver documents of the same session: all at once, after a line of input."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.truth import Truth
from knowledge_system.extraction.arriving import Arrived, Delivery, arrive
from knowledge_system.sensitivity.gatekeeper import DoorGatekeeper
from knowledge_system.sensitivity.topics import TopicRules
from knowledge_system.storage.database import Database
from knowledge_system.transcripts.files import FileTranscriptReader

AT = datetime(2026, 6, 1, tzinfo=UTC)
DOOR = "http:any/"


def document(*said: tuple[str, ...], session: str = "s1") -> dict[str, Any]:
    """A document of exchanges `(user, assistant)` or `(user, assistant, timestamp)`; `session` empty for no id."""
    exchanges = [dict(zip(("user", "assistant", "timestamp"), one, strict=False)) for one in said]
    head = {"project": "shop"} | ({"id": session} if session else {})
    return {"format": "knowledge-transcript/1", "session": head, "exchanges": exchanges}


async def deliver(truth: Truth, made: dict[str, Any], door: str = DOOR) -> Arrived:
    """Deliver a document the way the application does."""
    text = json.dumps(made, sort_keys=True)
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(made, file)
        file.flush()
        name = hashlib.sha256(text.encode()).hexdigest()
        delivery = Delivery(name, AT, door, made["session"].get("id", ""))
        means = FileTranscriptReader(), DoorGatekeeper(TopicRules(), b"k" * 32), truth
        return await arrive(delivery, Path(file.name), means, lambda _: None)


async def work(url: str, documents: list[dict[str, Any]]) -> None:
    database = await Database.open(url, SystemClock())
    print("ready", flush=True)  # noqa: T201 -- what the parent waits for
    await asyncio.to_thread(sys.stdin.readline)
    arrived = [await deliver(database.truth(), one) for one in documents]
    print(json.dumps([len(one.saved.new) for one in arrived]), flush=True)  # noqa: T201 -- as above
    await database.close()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], json.loads(sys.argv[2])))
