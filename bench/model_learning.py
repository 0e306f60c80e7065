"""Measure what learning with a model costs: `python bench/model_learning.py --corpus DIR [--home DIR] [--json]`.

Ingests the corpus as a user would, with a scripted provider on this machine in the place of a remote one: which
exchanges deserve a call, how they are batched, which of them privacy keeps here, and every byte that would leave are
real. The answers are made up: of each exchange that is asked about, a share (`--kept`) becomes an item of usual size,
copied from the transcript so that it passes validation; the rest is `not worth`. Tokens are bytes divided by
`--bytes-per-token`; `--keep FILE` writes the requests, one JSON document a line, for counting with another tokenizer.
Prices are those of the price library for the default model of each vendor, today, without discounts for cached tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system.application.system import opened
from knowledge_system.extraction.ingestion import IngestOptions
from knowledge_system.inference.prices import PriceBook
from knowledge_system.inference.vendors import vendors
from knowledge_system.settings import load
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

if TYPE_CHECKING:
    from knowledge_system.inference.prices import Price
    from knowledge_system.testing.scripted_provider import Received

BYTES_PER_TOKEN = 3.9
"""Of the dev corpus under cl100k_base, measured with `--keep` and that tokenizer: requests 3.97, replies 3.75."""
KEPT = 0.6
"""Share of the exchanges asked about that a model calls worth keeping: an assumption."""
CONTENT_CHARACTERS, QUOTE_CHARACTERS, TITLE_CHARACTERS = 420, 130, 70
"""Size of an item: the prompt allows 1,000, 300 and 100 and asks for 1 to 6 sentences. An assumption."""
REASONING_TOKENS = 1_000
"""Tokens a reasoning model thinks before one answer, billed as output: an assumption, shown beside none."""


@dataclass
class Teacher:
    """The provider's mind: says how much was asked and answers at usual length."""

    kept: float
    requests: list[dict[str, Any]] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    seen: int = 0

    def respond(self, request: Received) -> Step:
        """Answer a request about exchanges or pairs."""
        question = str(request.body["messages"][-1]["content"])
        (marker,) = re.findall(r"\AThe marker is (\w+)\.", question)
        pairs = len(re.findall(rf"(?m)^<<<{marker} PAIR \d+>>>$", question))
        self.requests.append(request.body)
        if pairs:
            entries = [{"index": n, "relation": "different", "quote": ""} for n in range(1, pairs + 1)]
            reply = json.dumps({"pairs": entries})
        else:
            answers = re.findall(rf"<<<{marker} ANSWER \d+>>>\n(.*?)\n<<<{marker} END \d+>>>", question, re.DOTALL)
            reply = json.dumps({"exchanges": [self._entry(n, text) for n, text in enumerate(answers, start=1)]})
        self.replies.append(reply)
        return Step(text=reply)

    def _entry(self, index: int, answer: str) -> dict[str, Any]:
        self.seen += 1
        before = math.floor((self.seen - 1) * self.kept)
        if math.floor(self.seen * self.kept) == before:
            return {"index": index, "worth": False, "type": "bug_solution", "title": "", "content": "", "quotes": []}
        plain = " ".join(answer.split())
        middle = max(0, len(plain) // 2 - CONTENT_CHARACTERS // 2)
        part = plain[middle : middle + CONTENT_CHARACTERS]
        quotes = [one.strip() for one in (part[:QUOTE_CHARACTERS], part[-QUOTE_CHARACTERS:])]
        content = part.replace("`", "")
        title = content[:TITLE_CHARACTERS].strip()
        return {
            "index": index,
            "worth": True,
            "type": "bug_solution",
            "title": title,
            "content": content,
            "quotes": quotes,
        }


def prompt_bytes(body: dict[str, Any]) -> int:
    """Return the bytes of a request that a model reads: its messages and the schema of the answer."""
    messages = sum(len(str(one["content"]).encode()) for one in body["messages"])
    return messages + len(json.dumps(body.get("response_format", {})).encode())


def dollars(price: Price, prompt: float, answer: float) -> float:
    """Return the cost of so many tokens."""
    return float(price.input) * prompt / 1e6 + float(price.output or 0) * answer / 1e6


async def ingested(options: argparse.Namespace, home: Path, teacher: Teacher) -> dict[str, Any]:
    """Ingest the corpus with `teacher` as the only provider; return the document."""
    async with ScriptedProvider() as server:
        server.respond = teacher.respond
        groq = {"baseUrl": server.openai_url, "price": {"input": 0.1, "output": 0.5}}
        tree = {
            "budget": {"monthly": 1000},
            "inference": {"providers": {"groq": groq}, "localModels": {"enabled": False}},
        }
        (home / "config.json").write_text(json.dumps(tree))
        os.environ["GROQ_API_KEY"] = "key-of-a-bench"
        async with opened(load(home, environ={}), "bench") as system:
            return await system.ingest([options.corpus / "transcripts"], IngestOptions(), lambda *_: None)


def figures(options: argparse.Namespace, document: dict[str, Any], teacher: Teacher) -> dict[str, Any]:
    """Return everything that is printed, per 1,000 exchanges where it says so."""
    exchanges = document["exchanges"]["new"]
    model = document["model"]
    per_thousand = 1000 / exchanges
    calls = len(teacher.requests)
    prompt = sum(prompt_bytes(body) for body in teacher.requests) / options.bytes_per_token
    answer = sum(len(one.encode()) for one in teacher.replies) / options.bytes_per_token
    book = PriceBook()
    costs = {}
    for name, row in vendors().items():
        price = book.find(row.prices, name, row.model) if row.prices else None
        if price is not None:
            plain, thinking = (
                dollars(price, prompt, answer + calls * extra) * per_thousand for extra in (0, REASONING_TOKENS)
            )
            costs[name] = {"model": row.model, "answers": round(plain, 4), "reasoning_too": round(thinking, 4)}
    return {
        "exchanges": exchanges,
        "sensitivity": document["sensitivity"],
        "shown": model["exchanges"]["asked"],
        "share_shown": round(model["exchanges"]["asked"] / exchanges, 3),
        "kept": model["exchanges"]["kept"],
        "disbelieved": {row["reason"]: row["count"] for row in model["disbelieved"]},
        "not_shown": {row["reason"]: row["count"] for row in model["fallbacks"]},
        "calls_per_1000": round(calls * per_thousand, 1),
        "pairs": model["pairs"],
        "prompt_tokens_per_1000": round(prompt * per_thousand),
        "answer_tokens_per_1000": round(answer * per_thousand),
        "items": document["items"],
        "dollars_per_1000": costs,
    }


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    teacher = Teacher(options.kept)
    with tempfile.TemporaryDirectory() as scratch:
        home = options.home or Path(scratch)
        document = await ingested(options, home, teacher)
    if options.keep:
        lines = [
            json.dumps({"request": one, "reply": reply})
            for one, reply in zip(teacher.requests, teacher.replies, strict=True)
        ]
        options.keep.write_text("\n".join(lines))
    return figures(options, document, teacher)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="the unpacked dev corpus")
    parser.add_argument("--home", type=Path, help="an empty data directory (default: a temporary one)")
    parser.add_argument("--kept", type=float, default=KEPT, help="share of the shown exchanges that become items")
    parser.add_argument("--bytes-per-token", type=float, default=BYTES_PER_TOKEN)
    parser.add_argument("--keep", type=Path, help="write requests and replies to this file")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    found = asyncio.run(measure(options))
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        if name != "dollars_per_1000":
            print(f"{name:24s} {value}")
    print(f"dollars per 1,000 exchanges: answers only / with {REASONING_TOKENS} tokens of reasoning a call")
    for name, cost in found["dollars_per_1000"].items():
        print(f"  {name:12s} {cost['model']:24s} {cost['answers']:8.4f} {cost['reasoning_too']:8.4f}")


if __name__ == "__main__":
    main()
