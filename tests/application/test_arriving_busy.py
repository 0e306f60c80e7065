"""A document that arrives while somebody else writes: begun again when overtaken, given back when that cannot help."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.domain.errors import Busy, KnowledgeError, Overtaken
from knowledge_system.domain.events import discard
from knowledge_system.extraction.arriving import ATTEMPTS, Delivery, arrive

DOCUMENT = {"format": "knowledge-transcript/1", "session": {"id": "s1"}, "exchanges": [{"user": "Why?"}]}


class Refusing:
    """A place for exchanges that nothing can be written to."""

    def __init__(self, error: KnowledgeError) -> None:
        self.error = error
        self.asked = 0

    async def source(self, path: str) -> None:
        del path

    async def placeholders(self, session_id: str) -> dict[str, dict[str, int]]:
        del session_id
        return {}

    async def save(self, batch: object) -> None:
        del batch
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "attempts"),
    [(Busy("locked", hint="wait"), 1), (Overtaken("written meanwhile", hint="again"), ATTEMPTS)],
)
async def test_only_who_was_overtaken_begins_again(tmp_path: Path, error: KnowledgeError, attempts: int) -> None:
    refusing: Any = Refusing(error)
    document = tmp_path / "s1.json"
    document.write_text(json.dumps(DOCUMENT))
    async with Parts(settings.load(tmp_path / "home", environ={}), "test") as parts:
        means = (parts.reader(), parts.gatekeeper(), replace(await parts.truth(), ingest=refusing))
        with pytest.raises(type(error)):
            await arrive(Delivery("d1", parts.clock.now(), "http:", "s1"), document, means, discard)

    assert refusing.asked == attempts
