"""Measure the local embedding model: `python bench/embedding.py [--json] [--variant int8] [--threads N] [--home DIR]`.

Texts are made from a fixed list of words, so every machine measures the same. Times are milliseconds, memory megabytes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import resource
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from knowledge_system.embedding.local import open_local_model
from knowledge_system.embedding.spaces import DEFAULT_VARIANT

if TYPE_CHECKING:
    from knowledge_system.embedding.local import LocalEmbeddingModel

WORDS = re.findall(
    r"\w+",
    "the a cache fails because tests run migration index of query server timeout branch commit function returns error "
    "config value missing in docker image build step deploy token refresh user session parse json schema field null",
)
REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "data" / "reference_embeddings.npz"
QUERY_WORDS = (5, 10, 100)
QUERIES = 300
BULK_WORDS = {"10 words": 10, "50 words": 50, "100 words": 100, "300 words (cut at 256 tokens)": 300}
BULK_WORK = 12_000
"""Words a bulk measurement embeds, so that each takes seconds."""


def made_text(words: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(seconds, q)) * 1e3, 2) for q in (50, 95, 99)}


async def query_latency(model: LocalEmbeddingModel, words: int, count: int = QUERIES) -> dict[str, float]:
    taken = []
    for seed in range(count):
        text = made_text(words, seed)
        start = time.perf_counter()
        await model.embed([text])
        taken.append(time.perf_counter() - start)
    return percentiles(taken)


async def bulk_rate(model: LocalEmbeddingModel, words: int, rounds: int = 3) -> dict[str, float]:
    """Return the best of some rounds, by the clock and by processor time (the fairer one on a busy machine)."""
    texts = [made_text(words, seed) for seed in range(BULK_WORK // words)]
    best = {"texts_per_s": 0.0, "texts_per_cpu_s": 0.0}
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        await model.embed(texts)
        best["texts_per_s"] = max(best["texts_per_s"], len(texts) / (time.perf_counter() - start))
        best["texts_per_cpu_s"] = max(best["texts_per_cpu_s"], len(texts) / (time.process_time() - used))
    return {name: round(rate, 1) for name, rate in best.items()}


async def latency_beside_bulk(model: LocalEmbeddingModel) -> dict[str, float]:
    bulk = asyncio.ensure_future(model.embed([made_text(150, seed) for seed in range(400)]))
    await asyncio.sleep(0)
    result = await query_latency(model, 10, 40)
    bulk.cancel()
    await asyncio.gather(bulk, return_exceptions=True)
    return result


async def reference_cosine(model: LocalEmbeddingModel) -> dict[str, float] | None:
    if not REFERENCE.is_file():
        return None
    with np.load(REFERENCE, allow_pickle=False) as reference:
        vectors = np.array(await model.embed([str(text) for text in reference["texts"]]))
        near = np.einsum("ij,ij->i", vectors, reference["vectors"])
    return {"mean": round(float(near.mean()), 6), "worst": round(float(near.min()), 6)}


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


async def timed_load(models: Path, arguments: argparse.Namespace) -> tuple[LocalEmbeddingModel, float]:
    model = open_local_model(models, arguments.variant, arguments.threads)
    start = time.perf_counter()
    await model.load()
    return model, round((time.perf_counter() - start) * 1e3, 1)


async def measured(models: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    model, first_ms = await timed_load(models, arguments)
    model.close()
    model, load_ms = await timed_load(models, arguments)
    await query_latency(model, 10, 20)
    result: dict[str, Any] = {
        "space": model.space.key,
        "threads": arguments.threads,
        "first_load_ms": first_ms,
        "load_ms": load_ms,
        "query_ms": {f"{words} words": await query_latency(model, words) for words in QUERY_WORDS},
        "query_beside_bulk_ms": await latency_beside_bulk(model),
        "bulk": {name: await bulk_rate(model, words) for name, words in BULK_WORDS.items()},
        "peak_memory_mb": peak_memory(),
        "reference_cosine": await reference_cosine(model),
    }
    model.close()
    return result


def printed(result: dict[str, Any], indent: str = "") -> None:
    for name, value in result.items():
        if isinstance(value, dict):
            print(f"{indent}{name}")
            printed(value, indent + "  ")
        else:
            print(f"{indent}{name}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--variant", default=DEFAULT_VARIANT)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--home", type=Path, help="directory whose models/ folder is used; default: a new one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = asyncio.run(measured((arguments.home or Path(scratch)) / "models", arguments))
    print(json.dumps(result)) if arguments.json else printed(result)


if __name__ == "__main__":
    main()
