"""Index parameters by size. Sizes are bytes of vectors, because that is what the engine's thresholds count.

Source of the constants: the project's measurements (10k, 50k and 100k vectors of 384 floats). Exact search stays below
2 ms up to 20,000 KB. Above, m 16 with ef_construct 128 keeps filtered recall where larger graphs lose it, and
`full_scan_threshold` answers narrow filters exactly. Above 150,000 KB (100,000 vectors of 384 floats) int8 codes with
twofold oversampling halve the latency at recall .9998.
"""

from __future__ import annotations

from dataclasses import dataclass

KB = 1024
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Preset:
    """Parameters of the graph and of queries. Thresholds are KB of vectors, as the engine counts them."""

    name: str
    up_to_kb: float
    m: int
    ef_construct: int
    hnsw_ef: int
    full_scan_kb: int
    quantized: bool = False


INDEXING_KB = 20_000
"""Segments with fewer KB of vectors get no graph: they are searched exactly."""
SEARCH_THREADS = 1
"""Threads of a shard's own. One searches both segments, by meaning and by words, in .5 ms at 10,000 items and 1.6 ms at
100,000; the engine's own choice, eight on two processors, takes .7 and 1.9 and 2.5 times the processor time."""
OVERSAMPLING = 2.0
"""Candidates per result that are rescored with full vectors when int8 codes are searched."""

PRESETS = (
    Preset("exact", INDEXING_KB, m=16, ef_construct=128, hnsw_ef=128, full_scan_kb=20_000),
    Preset("graph", 150_000, m=16, ef_construct=128, hnsw_ef=128, full_scan_kb=20_000),
    Preset("graph-int8", float("inf"), m=16, ef_construct=200, hnsw_ef=192, full_scan_kb=50_000, quantized=True),
)


def needs_graph(vectors: int, dimension: int) -> bool:
    """Return whether that many vectors are searched through a graph once the index is optimised."""
    return vectors * dimension * FLOAT_BYTES / KB > INDEXING_KB


def preset_for(vectors: int, dimension: int) -> Preset:
    """Return the parameters for that many vectors of that dimension."""
    size = vectors * dimension * FLOAT_BYTES / KB
    return next(preset for preset in PRESETS if size <= preset.up_to_kb)
