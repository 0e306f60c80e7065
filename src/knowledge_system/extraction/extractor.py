"""Learning without a model: the extractor that judges exchanges by what their transcripts show."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.knowledge import Candidate, Verdict
from knowledge_system.extraction.classify import Judgement, judgement, observations
from knowledge_system.extraction.compose import compose, shown_files
from knowledge_system.extraction.features import by_contribution, ruled_out
from knowledge_system.extraction.judge import Parameters, shipped_parameters
from knowledge_system.extraction.signals import Signals, identifiers, read_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.domain.knowledge import Episode

METHOD = "evidence"
MOST_TAGS, SHORTEST_TAG, LONGEST_TAG = 8, 3, 40
MOST_COMMANDS = 5
COMMAND_CHARACTERS = 200

_NO_TAG = re.compile(r"[\s/]")
_LANGUAGES = dict(
    pair.split("=")
    for pair in [
        "py=python",
        "pyi=python",
        "ts=typescript",
        "tsx=typescript",
        "js=javascript",
        "jsx=javascript",
        "mjs=javascript",
        "go=go",
        "rs=rust",
        "java=java",
        "kt=kotlin",
        "rb=ruby",
        "php=php",
        "cs=csharp",
        "cpp=cpp",
        "cc=cpp",
        "hpp=cpp",
        "c=c",
        "h=c",
        "swift=swift",
        "scala=scala",
        "ex=elixir",
        "exs=elixir",
        "dart=dart",
        "lua=lua",
        "sh=shell",
        "bash=shell",
        "zsh=shell",
        "sql=sql",
        "yml=yaml",
        "yaml=yaml",
        "tf=terraform",
        "vue=vue",
        "svelte=svelte",
        "css=css",
        "html=html",
        "hs=haskell",
        "gd=gdscript",
    ]
)


class EvidenceExtractor:
    """Judges by signals, prototypes and a small trained model; calls nothing and keeps nothing between calls."""

    def __init__(self, parameters: Parameters | None = None) -> None:
        self._parameters = parameters or shipped_parameters()

    @property
    def version(self) -> str:
        """Name of the method and version of its parameters."""
        return f"{METHOD}-{self._parameters.version}"

    async def judge(self, episodes: Sequence[Episode]) -> list[Verdict]:
        """Return one verdict per episode, in order."""
        return [self.verdict(episode) for episode in episodes]

    def verdict(self, episode: Episode) -> Verdict:
        """Return the verdict on one episode: at most one candidate, or the reason why there is none."""
        signals = read_signals(episode)
        if reason := ruled_out(signals):
            return Verdict(episode.exchange.id, reason=reason)
        found = judgement(observations(signals, episode, self._parameters), self._parameters)
        if not found.worth:
            return Verdict(episode.exchange.id, reason=_main_objection(found))
        composed = compose(signals, found.kind)
        if composed is None:
            return Verdict(episode.exchange.id, reason="no statement that stands alone")
        candidate = Candidate(
            type=found.kind,
            title=composed.title,
            content=composed.content,
            confidence=round(found.confidence, 4),
            evidence=composed.evidence,
            metadata=self._metadata(signals, found),
        )
        return Verdict(episode.exchange.id, (candidate,))

    def _metadata(self, signals: Signals, found: Judgement) -> dict[str, Any]:
        files = shown_files(signals)
        commands = [command[:COMMAND_CHARACTERS] for command in signals.work.commands[-MOST_COMMANDS:]]
        errors = [*(line.text for line in signals.ask.errors), *signals.work.failures]
        return {
            "extractor": self.version,
            "files": files,
            "commands": commands,
            "error": errors[0] if errors else "",
            "language": _language(signals),
            "tags": _tags(signals, files),
            "reasons": by_contribution(found.contributions),
            "types": {
                kind.value: round(share, 3) for kind, share in sorted(found.kinds.items(), key=lambda p: -p[1])[:3]
            },
        }


def _main_objection(found: Judgement) -> str:
    worst = min(found.contributions.items(), key=lambda pair: pair[1], default=("", 0.0))
    return f"not worth keeping ({found.confidence:.2f}), mostly for {worst[0]}"


def _language(signals: Signals) -> str:
    """Return the programming language most files and code blocks are in, or an empty text."""
    counts: dict[str, int] = {}
    endings = [
        path.rsplit(".", 1)[-1].lower() for path in (*signals.exchange.facts.files, *signals.identifiers) if "." in path
    ]
    fences = [block.language.split(":")[0].lower() for block in signals.prose.code]
    for word in (*endings, *fences):
        name = _LANGUAGES.get(word, word if word in _LANGUAGES.values() else "")
        if name:
            counts[name] = counts.get(name, 0) + 1
    return max(counts, key=lambda name: (counts[name], name), default="")


def _tags(signals: Signals, files: Sequence[str]) -> list[str]:
    """Return the names of code and settings the answer speaks of most."""
    counts: dict[str, int] = {}
    for sentence in signals.prose.body:
        for name in identifiers(sentence.text):
            if name not in files and SHORTEST_TAG <= len(name) <= LONGEST_TAG and not _NO_TAG.search(name):
                counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: (-counts[name], name))[:MOST_TAGS]
