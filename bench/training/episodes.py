"""Episodes for training and measuring: the dev corpus with its labels, and the exchanges written for training."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from knowledge_system.domain.knowledge import Episode
from knowledge_system.domain.sessions import Exchange, ExchangeFacts, ToolCall, TranscriptBatch
from knowledge_system.embedding.local import open_local_model
from knowledge_system.retrieval.passages import exchange_passages
from knowledge_system.sensitivity.gatekeeper import DoorGatekeeper
from knowledge_system.sensitivity.topics import load_topics
from knowledge_system.transcripts.files import FileTranscriptReader

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Sequence

HERE = Path(__file__).resolve().parent
FOLLOWING = 2
WRITTEN = "written"
"""Stands for the repository of the examples written for training."""
WRITTEN_FILES = "written_exchanges_*.jsonl"
NAMES = {"testing_strategy": "test_strategy"}
"""The corpus' word for a type, ours."""


@dataclass(frozen=True, slots=True)
class Example:
    """An episode with its label (`none` or a type), the second acceptable label, and the group it is resampled by."""

    episode: Episode
    label: str
    alt: str | None
    file: str
    repository: str
    index: int = 0

    @property
    def key(self) -> tuple[str, int]:
        """The exchange's place in the corpus."""
        return self.file, self.index


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file, one a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def label_of(word: str | None) -> str | None:
    """Return a label in our words."""
    return NAMES.get(word, word) if word else None


def corpus_exchanges(corpus: Path) -> dict[str, list[Exchange]]:
    """Return the corpus' exchanges by file, in order, read and redacted as in daily use; positions are the indexes."""
    files = list(dict.fromkeys(row["file"] for row in lines(corpus / "exchanges.jsonl")))
    return asyncio.run(_read(corpus, files))


async def _read(corpus: Path, files: Sequence[str]) -> dict[str, list[Exchange]]:
    reader, keeper = FileTranscriptReader(), DoorGatekeeper(load_topics(None), b"bench")
    found: dict[str, list[Exchange]] = {}
    for file in files:
        memory, kept = keeper.memory(), found.setdefault(file, [])
        async for batch in reader.read(corpus / file):
            if isinstance(batch, TranscriptBatch):
                kept.extend(keeper.admit(raw, memory) for raw in batch.exchanges)
    return found


def _exchange(
    file: str, index: int, texts: tuple[str, str], tools: tuple[ToolCall, ...], facts: ExchangeFacts
) -> Exchange:
    key = hashlib.sha256(f"{file}\0{index}".encode()).hexdigest()[:24]
    return Exchange(
        "x" + key, file, index, file, "project", "agent", *texts, content_hash=key, tools=tools, facts=facts
    )


def repositories(corpus: Path) -> dict[str, str]:
    """Return the repository of each file of the corpus."""
    return {row["file"]: row["repo"] for row in lines(corpus / "exchanges.jsonl")}


def labelled(corpus: Path, files: dict[str, list[Exchange]], labels: Path) -> list[Example]:
    """Return the labelled examples of a label file: either the corpus' `knowledge.jsonl` or our own form."""
    owners = repositories(corpus)
    found = []
    for row in lines(labels):
        source = row.get("source", row)
        label = label_of(row.get("knowledge_type", row.get("label")))
        place = source["exchange_index"]
        if label is None or place >= len(files[source["file"]]):
            continue
        episode = _episode(files[source["file"]], place)
        found.append(
            Example(
                episode,
                label,
                label_of(row.get("alt")),
                source["file"],
                owners[source["file"]],
                source["exchange_index"],
            )
        )
    return found


def _episode(exchanges: Sequence[Exchange], place: int) -> Episode:
    before, after = exchanges[max(0, place - 1) : place], exchanges[place + 1 : place + 1 + FOLLOWING]
    return Episode(exchanges[place], tuple(before), tuple(after), ())


def written(folder: Path = HERE) -> list[Example]:
    """Return the exchanges written for training (`WRITTEN_FILES` beside this module)."""
    return [
        _written(row, f"{path.stem}:{number}")
        for path in sorted(folder.glob(WRITTEN_FILES))
        for number, row in enumerate(lines(path))
    ]


def _written(row: dict[str, Any], name: str) -> Example:
    tools = tuple(
        ToolCall(t["name"], t.get("input", ""), t.get("output", ""), bool(t.get("error"))) for t in row.get("tools", ())
    )
    facts = ExchangeFacts(files=tuple(row.get("files", ())), interrupted=bool(row.get("interrupted")))
    exchange = _exchange(name, 1, (row["user"], row["assistant"]), tools, facts)
    before = tuple(_exchange(name, 0, (text, ""), (), ExchangeFacts()) for text in [row.get("before")] if text)
    after = tuple(_exchange(name, 2, (text, ""), (), ExchangeFacts()) for text in [row.get("next")] if text)
    return Example(Episode(exchange, before, after, ()), row["label"], row.get("alt"), name, WRITTEN, 1)


def embedded(examples: Sequence[Example], cache: Path) -> list[Example]:
    """Return the examples with the vectors of their whole-exchange views."""
    texts = [exchange_passages(e.episode.exchange)[0].text for e in examples]
    vectors = embed(texts, cache)
    return [_with(example, text, vector) for example, text, vector in zip(examples, texts, vectors, strict=True)]


def _with(example: Example, text: str, vector: array[float]) -> Example:
    old = example.episode
    episode = Episode(old.exchange, old.preceding, old.following, ((text, vector),))
    return Example(episode, example.label, example.alt, example.file, example.repository, example.index)


def embed(texts: Sequence[str], cache: Path) -> list[array[float]]:
    """Return the vectors of `texts` by the local model; its assembled graph and the vectors are kept in `cache`."""
    cache.mkdir(parents=True, exist_ok=True)
    store = cache / "vectors.npz"
    known: dict[str, Any] = {}
    if store.is_file():
        with np.load(store) as arrays:
            known = dict(zip(arrays["keys"].tolist(), arrays["vectors"], strict=True))
    keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
    missing = list({key: text for key, text in zip(keys, texts, strict=True) if key not in known}.items())
    if missing:
        known.update(zip([key for key, _ in missing], _computed([text for _, text in missing], cache), strict=True))
        np.savez_compressed(
            store, keys=np.array(list(known)), vectors=np.array([np.asarray(v, np.float32) for v in known.values()])
        )
    return [_float_array(known[key]) for key in keys]


def _computed(texts: Sequence[str], cache: Path) -> list[Any]:
    model = open_local_model(cache, threads=2)
    try:
        return list(asyncio.run(model.embed(texts)))
    finally:
        model.close()


def _float_array(values: Iterable[float]) -> array[float]:
    from array import array as make  # noqa: PLC0415 -- the name is a type elsewhere in this module

    return make("f", values)


def default_cache() -> Path:
    """Return the folder where vectors are kept between runs."""
    return Path(tempfile.gettempdir()) / "knowledge-bench-vectors"
