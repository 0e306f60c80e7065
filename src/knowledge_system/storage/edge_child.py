"""The process that touches files the engine might abort on, and does work that would hold the interpreter lock.

Started as `python -P -m knowledge_system.storage.edge_child COMMAND GENERATION DIMENSION PARENT`; its last line of
output is a JSON object. It dies with its parent. Commands:

- `check`: the state after a crash: untouched files against the manifest, load in place, read everything, flush.
- `verify`: every file against the manifest, then the same on a copy that nobody else uses.
- `optimize`: load with the parameters for its size, optimise, canary, flush, new manifest.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.processes.parentage import die_with
from knowledge_system.storage import index_manifest
from knowledge_system.storage.edge_engine import Shard
from knowledge_system.storage.edge_inspect import canary, check_contents
from knowledge_system.storage.edge_presets import preset_for

_NICENESS = 10


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; watch standard input too, which the parent holds."""
    die_with(parent)
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()


def _exit_at_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 1):  # not `sys.stdin`: its lock would be held when the interpreter ends
        pass
    os._exit(1)


def check(generation: Path, dimension: int) -> dict[str, Any]:
    """Check a generation that a crash left, in place."""
    return _examine(generation, dimension, index_manifest.differences(generation, untouched_only=True))


def verify(generation: Path, dimension: int) -> dict[str, Any]:
    """Check a copy of a clean generation."""
    return _examine(generation, dimension, index_manifest.differences(generation))


def _examine(generation: Path, dimension: int, problems: list[str]) -> dict[str, Any]:
    # What was found in the files is printed at once: loading them may end this process.
    print(json.dumps({"points": 0, "problems": problems}), flush=True)  # noqa: T201 - the answer to the parent
    try:
        shard = Shard.load(generation / index_manifest.SHARD, dimension)
        found = check_contents(shard)
        shard.close()
    except KnowledgeError as error:
        return {"points": 0, "problems": [*problems, error.message]}
    facts = {"points": found.points, "vectors": found.vectors, "words": found.words}
    return {**facts, "problems": [*problems, *found.problems]}


def optimize(generation: Path, dimension: int) -> dict[str, Any]:
    """Optimise the shard for its size and measure its recall; it is clean afterwards."""
    os.nice(_NICENESS)
    path = generation / index_manifest.SHARD
    shard = Shard.load(path, dimension)
    vectors = shard.counts().vectors
    shard.close()
    shard = Shard.load(path, dimension, preset_for(vectors, dimension))
    changed = shard.optimize()
    recalls = canary(shard) if changed else {}
    counts = shard.counts()
    shard.close()
    index_manifest.refresh(generation)
    return {"changed": changed, "points": counts.points, "indexed": counts.indexed, "recalls": recalls, "problems": []}


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status."""
    name, generation, dimension, parent = arguments
    die_with_parent(int(parent))
    command = {"check": check, "verify": verify, "optimize": optimize}[name]
    try:
        answer = command(Path(generation), int(dimension))
    except KnowledgeError as error:
        answer = {"points": 0, "problems": [error.message]}
    print(json.dumps(answer), flush=True)  # noqa: T201 - the answer to the parent
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
