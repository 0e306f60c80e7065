"""How well and how fast questions are answered, measured from outside through the command line.

``python bench/retrieval.py --corpus DIR --queries FILE [--home DIR] [--scope exchanges] [--json]``

`DIR/transcripts` is ingested into a scratch home (or `--home`, which is used as it is when it exists), then every
question of FILE is asked in one `knowledge search --batch`. A line of FILE is an object with `query`, `relevant` (a
list of `file`, `exchange_index`), and optionally `primary`, `format`, `repo`. Intervals are 95 % percentile bootstrap,
once over questions and once over the files they are about, since questions about one file are not independent.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RESAMPLES = 4_000
DEPTH = 10
MEASURES = ("recall@1", "recall@5", "recall@10", "success@10", "primary@1", "MRR")

Place = tuple[str, int]


@dataclass(frozen=True)
class Outcome:
    """One question, what it found, and how good that is."""

    question: dict[str, Any]
    found: list[Place]
    took_ms: float
    scores: dict[str, float]


def main() -> int:
    options = parse()
    questions = [json.loads(line) for line in options.queries.read_text(encoding="utf-8").splitlines() if line.strip()]
    with scratch_home(options.home) as home:
        ingest = None if (home / "analytics.db").exists() else ingested(home, options.corpus / "transcripts")
        answers, seconds = asked(home, questions, options)
    outcomes = [outcome(q, a, options.corpus) for q, a in zip(questions, answers, strict=True)]
    report = {
        "questions": len(outcomes),
        "scope": options.scope,
        "overall": summary(outcomes),
        "by_format": grouped(outcomes, "format"),
        "by_repo": grouped(outcomes, "repo"),
        "latency_ms": latency([one.took_ms for one in outcomes]),
        "batch_seconds": round(seconds, 2),
        "ingest": ingest,
    }
    if options.json:
        print(json.dumps(report))
    else:
        show(report, outcomes if options.misses else [])
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--scope", default="exchanges", choices=("items", "exchanges", "all"))
    parser.add_argument("--threshold", type=float, help="instead of the default one")
    parser.add_argument("--misses", action="store_true", help="list the questions without a relevant hit in the top 5")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


class scratch_home:  # noqa: N801 -- a context manager reads as a verb phrase
    """The given home, kept; or a fresh one, removed afterwards."""

    def __init__(self, given: Path | None) -> None:
        self._given = given
        self._made: Path | None = None

    def __enter__(self) -> Path:
        if self._given is not None:
            self._given.mkdir(parents=True, exist_ok=True)
            return self._given
        self._made = Path(tempfile.mkdtemp(prefix="knowledge-bench-"))
        return self._made

    def __exit__(self, *_: object) -> None:
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)


def knowledge(home: Path, *arguments: str, given: str | None = None) -> str:
    """Run the command beside this interpreter, else the one on the path; stop with its message when it fails."""
    beside = Path(sys.executable).with_name("knowledge")
    command = [str(beside) if beside.exists() else "knowledge", "--home", str(home), "--json", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nreturned {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def ingested(home: Path, transcripts: Path) -> dict[str, Any]:
    started = time.perf_counter()
    report = json.loads(knowledge(home, "ingest", str(transcripts)))
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "exchanges": report["exchanges"],
        "items": report["items"],
    }


def asked(home: Path, questions: list[dict[str, Any]], options: argparse.Namespace) -> tuple[list[Any], float]:
    """Return one answer a question, and the seconds of the whole run; the first question is asked twice to warm up."""
    asks = [{"query": one["query"], "scope": options.scope, "limit": DEPTH} for one in questions]
    if options.threshold is not None:
        asks = [{**ask, "threshold": options.threshold} for ask in asks]
    lines = "\n".join(map(json.dumps, [asks[0], *asks]))
    started = time.perf_counter()
    answers = [json.loads(line) for line in knowledge(home, "search", "--batch", "-", given=lines).splitlines()]
    return answers[1:], time.perf_counter() - started


def outcome(question: dict[str, Any], answer: dict[str, Any], corpus: Path) -> Outcome:
    relevant = [(one["file"], one["exchange_index"]) for one in question["relevant"]]
    primary = question.get("primary") or question["relevant"][0]
    hits = [set(places(result, corpus)) for result in answer["results"]]
    ranks = {place: next((r for r, hit in enumerate(hits) if place in hit), DEPTH) for place in relevant}
    best = min(ranks.values())
    scores = {f"recall@{k}": sum(rank < k for rank in ranks.values()) / len(relevant) for k in (1, 5, 10)}
    scores["success@10"] = float(best < DEPTH)
    scores["primary@1"] = float(ranks.get((primary["file"], primary["exchange_index"]), DEPTH) == 0)
    scores["MRR"] = 1 / (best + 1) if best < DEPTH else 0.0
    return Outcome(question, [min(hit, default=("", -1)) for hit in hits], answer["took_ms"], scores)


def places(result: dict[str, Any], corpus: Path) -> Iterator[Place]:
    """Yield where a result comes from, relative to the corpus; an item comes from all its evidence."""
    for source in result["source"]:
        path = Path(source["path"])
        yield (
            (path.relative_to(corpus).as_posix() if path.is_relative_to(corpus) else str(path)),
            source["exchange_index"],
        )


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    files = [one.question["relevant"][0]["file"] for one in outcomes]
    return {
        measure: {
            "mean": round(mean([one.scores[measure] for one in outcomes]), 3),
            "by_question": interval(outcomes, measure, list(range(len(outcomes)))),
            "by_file": interval(outcomes, measure, files),
        }
        for measure in MEASURES
    }


def interval(outcomes: Sequence[Outcome], measure: str, clusters: Sequence[object]) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean when whole clusters are drawn."""
    members: dict[object, list[float]] = defaultdict(list)
    for one, cluster in zip(outcomes, clusters, strict=True):
        members[cluster].append(one.scores[measure])
    sums = [(sum(values), len(values)) for values in members.values()]
    chance = random.Random(0)
    means = []
    for _ in range(RESAMPLES):
        drawn = chance.choices(sums, k=len(sums))
        means.append(sum(total for total, _ in drawn) / sum(count for _, count in drawn))
    means.sort()
    return round(means[int(0.025 * RESAMPLES)], 3), round(means[int(0.975 * RESAMPLES)], 3)


def grouped(outcomes: Sequence[Outcome], key: str) -> dict[str, dict[str, float]]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        groups[one.question.get(key, "")].append(one)
    return {
        name: {
            "questions": len(members),
            **{m: round(mean([one.scores[m] for one in members]), 3) for m in ("recall@5", "success@10", "MRR")},
        }
        for name, members in sorted(groups.items())
    }


def latency(times: Sequence[float]) -> dict[str, float]:
    ordered = sorted(times)
    at: Callable[[float], float] = lambda share: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)  # noqa: E731 -- three uses, one line
    return {"p50": at(0.5), "p95": at(0.95), "max": round(ordered[-1], 2)}


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def show(report: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    print(f"{report['questions']} questions, scope {report['scope']}")
    for measure, value in report["overall"].items():
        print(f"  {measure:<11} {value['mean']:.3f}  {value['by_question']}  by file {value['by_file']}")
    print("  latency ms", report["latency_ms"], "whole batch s", report["batch_seconds"])
    if report["ingest"]:
        print("  ingest", report["ingest"])
    for title in ("by_format", "by_repo"):
        print(title)
        for name, row in report[title].items():
            print(f"  {name:<34} {row}")
    for one in outcomes:
        if one.scores["recall@5"] == 0:
            print(f"missed: {one.question.get('id', '')} {one.question['query']}")
            print(f"  wanted {one.question['relevant'][0]}\n  found  {one.found[:5]}")


if __name__ == "__main__":
    sys.exit(main())
