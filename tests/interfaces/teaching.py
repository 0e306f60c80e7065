"""A home whose learning may ask a scripted model, and models of different character for it to ask."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.interfaces.conftest import FIXED_BUG, Cli, transcript

from knowledge_system.application.system import opened
from knowledge_system.domain.truth import Page
from knowledge_system.extraction.ingestion import IngestOptions
from knowledge_system.settings import load
from knowledge_system.testing.scripted_provider import Received, ScriptedProvider, Step

LESSON: dict[str, Any] = {
    "worth": True,
    "type": "bug_solution",
    "title": "A missing order leaks a pooled connection",
    "content": "`OrderRepository.find()` opens a session and never closes it when an order is missing, so every 404 "
    "leaks a pooled connection. The query is wrapped in `with Session(engine) as session:` now.",
    "quotes": ["so every 404 leaks a pooled connection", "which returns the connection on every path"],
}
"""What a good model says about FIXED_BUG."""

Mind = Callable[[str, str], Mapping[str, Any]]
"""Prompt and answer of an exchange in, the entry about it out."""


def asked(request: Received) -> str:
    return str(request.body["messages"][-1]["content"])


def shown(question: str) -> list[tuple[str, str]]:
    """Return prompt and answer of the exchanges in a question, as somebody who heeds its boundaries reads them."""
    (marker,) = re.findall(r"\AThe marker is (\w+)\.", question)
    pattern = rf"<<<{marker} PROMPT \d+>>>\n(.*?)\n<<<{marker} ANSWER \d+>>>\n(.*?)\n<<<{marker} END \d+>>>"
    return re.findall(pattern, question, re.DOTALL)


def of_mind(mind: Mind) -> Callable[[Received], Step]:
    """Return a model that says of each exchange what `mind` says, and of every pair of items that they differ."""

    def respond(request: Received) -> Step:
        question = asked(request)
        if " PAIR 1>>>" in question:
            pairs = range(1, question.count(" NEWER ") + 1)
            return Step(text=json.dumps({"pairs": [{"index": n, "relation": "different", "quote": ""} for n in pairs]}))
        entries = [{"index": n, **mind(*texts)} for n, texts in enumerate(shown(question), start=1)]
        return Step(text=json.dumps({"exchanges": entries}))

    return respond


def good(user: str, assistant: str) -> Mapping[str, Any]:
    """Say the lesson where it was shown, and nothing elsewhere."""
    del user
    empty = {"worth": False, "type": "bug_solution", "title": "", "content": "", "quotes": []}
    return LESSON if FIXED_BUG["assistant"][:60] in assistant else empty


@dataclass
class School:
    """A home, a provider far away, and what a test says to both."""

    cli: Cli
    server: ScriptedProvider
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def configure(
        self, *, learning: Mapping[str, Any] | None = None, inference: Mapping[str, Any] | None = None, **other: Any
    ) -> None:
        priced = {"input": 1.0, "output": 2.0}
        groq = {"baseUrl": self.server.openai_url, "model": "m-far", "price": priced}
        self.settings = {
            "inference": {
                "providers": {"groq": groq},
                "localModels": {"enabled": False},  # whatever runs on the machine of a test is none of its business
                **(inference or {}),
            },
            "learning": learning or {},
            **other,
        }
        (self.cli.home / "config.json").write_text(json.dumps(self.settings))

    def transcript(self, *exchanges: Mapping[str, Any], name: str = "s1", project: str = "shop") -> Path:
        return transcript(self.folder / f"{name}.json", name, [dict(one) for one in exchanges], project)

    async def ingest(self, *exchanges: Mapping[str, Any], name: str = "s1") -> dict[str, Any]:
        """Ingest in this process and return the document."""
        path = self.transcript(*exchanges or (FIXED_BUG,), name=name)
        async with opened(load(self.cli.home, environ={}), "test") as system:
            return await system.ingest([path], IngestOptions(), lambda *_: None)

    async def items(self) -> list[Any]:
        async with opened(load(self.cli.home, environ={}), "test") as system:
            return (await (await system.parts.truth()).items.page(Page(include_inactive=True)))[0]

    async def json(self, *arguments: str | Path) -> Any:
        """Run the command line in a process of its own."""
        return await asyncio.to_thread(self.cli.json, *arguments)

    @property
    def seen(self) -> str:
        """Everything that the provider was sent."""
        return "\n".join(one.text for one in [*self.server.requests, *self.server.probes])
