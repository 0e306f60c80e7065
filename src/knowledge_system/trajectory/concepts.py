"""What a session is about now: technologies, components and names, fading with distance, learned about or applied."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.trajectory import ActiveConcept, Engagement, Intent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from knowledge_system.domain.sessions import Exchange
    from knowledge_system.trajectory.prompts import Spoken
    from knowledge_system.trajectory.work import Work

FADES: Final = 0.7
"""What is left of a concept's weight one exchange later."""
LEAST_WEIGHT: Final = 0.1
MOST_CONCEPTS: Final = 12
DIGITS: Final = 4
NAME_CHARACTERS: Final = 60
SAID, EDITED, RUN, NAMED = 0.5, 0.5, 0.3, 0.25
"""What a mention in the prompt, an edited or read file, a command, and a name in the answer add."""
ANSWER_CHARACTERS: Final = 4_000

_TECHNOLOGIES_WORDS: Final = """
    python typescript javascript rust golang java kotlin swift ruby php scala elixir haskell c++ bash powershell sql
    html css sass react vue svelte angular nextjs next.js nuxt vite webpack tailwind django flask fastapi rails
    laravel spring express nestjs node deno bun npm pnpm yarn pip uv poetry cargo gradle maven cmake make bazel
    docker kubernetes k8s helm terraform ansible nginx postgres postgresql mysql sqlite redis mongodb elasticsearch
    qdrant kafka rabbitmq celery graphql grpc oauth jwt stripe aws s3 lambda azure gcp firebase supabase git github
    gitlab jenkins pytest vitest jest playwright cypress junit mocha eslint ruff mypy prettier numpy pandas pytorch
    tensorflow sklearn onnx openai anthropic claude codex ollama langchain mcp websocket markdown latex excel json
    yaml toml prisma sqlalchemy alembic hibernate prometheus grafana opentelemetry linux macos windows ios android
    electron flutter unity godot arduino raspberry cloudflare vercel heroku auth authentication authorization
    caching migration migrations pagination logging async concurrency encryption
"""
_TECHNOLOGIES: Final = frozenset(_TECHNOLOGIES_WORDS.split())
_ALIASES: Final = {
    "postgresql": "postgres",
    "next.js": "nextjs",
    "k8s": "kubernetes",
    "golang": "go",
    "py.test": "pytest",
}
_SUFFIXES: Final = {
    "py": "python", "ts": "typescript", "tsx": "react", "jsx": "react", "js": "javascript", "rs": "rust", "go": "go",
    "java": "java", "kt": "kotlin", "swift": "swift", "rb": "ruby", "php": "php", "cs": "c#", "cpp": "c++",
    "sql": "sql", "css": "css", "vue": "vue", "svelte": "svelte", "tf": "terraform", "sh": "bash",
}  # fmt: skip
_TOKEN = re.compile(r"[\w+#.]+")
_IDENTIFIER = re.compile(r"`([A-Za-z_][\w.:-]{2,58}(?:\(\))?)`")
_FILE = re.compile(
    r"(?<![\w/])@?((?:[\w.-]+/)*[\w-]+\.(?:py|tsx?|jsx?|go|rs|java|kt|rb|php|cs|cpp|sql|css|vue|svelte|tf|sh"
    r"|ya?ml|toml))\b"
)
_IMPORT = re.compile(
    r"(?m)^(?:from|import|use) ([A-Za-z_][\w]{1,40})|\brequire\(['\"]([\w@/-]{2,40})['\"]\)"
    r"|\bfrom ['\"]([\w@/-]{2,40})['\"]"
)
_PROGRAM = re.compile(r"(?:^|&& |\| |; |bash -lc \W*)(?:sudo )?([a-z][\w+.-]{1,20})\b")
_PLAIN_PROGRAMS_WORDS: Final = """
    ls cat cd echo sed grep rg find head tail pwd wc mkdir rm cp mv touch sleep export which true test bash sh
"""
_PLAIN_PROGRAMS: Final = frozenset(_PLAIN_PROGRAMS_WORDS.split())
_NO_STEMS_WORDS: Final = """
    index main mod init __init__ readme test tests utils types app config package
"""
_NO_STEMS: Final = frozenset(_NO_STEMS_WORDS.split())


def active(
    before: Sequence[ActiveConcept], exchange: Exchange, spoken: Spoken, work: Work, intent: Intent | None
) -> tuple[ActiveConcept, ...]:
    """Return what the session is about after `exchange`: what was active before, faded, and what it mentions."""
    applied = _applied(exchange, work)
    asked = _asked(exchange, spoken)
    asking = intent in {Intent.LEARNING, Intent.EXPLORATION} or not work.edits
    weights = {one.name: one.weight * FADES for one in before}
    how = {one.name: one.engagement for one in before}
    for name, gain in [*asked, *applied]:
        weights[name] = min(1.0, weights.get(name, 0.0) + gain)
    for name, _ in asked:
        how[name] = Engagement.LEARNING if asking else Engagement.APPLYING
    for name, _ in applied:
        how[name] = Engagement.APPLYING
    found = [ActiveConcept(name, how[name], round(weight, DIGITS)) for name, weight in weights.items()]
    found = [one for one in found if one.weight >= LEAST_WEIGHT]
    return tuple(sorted(found, key=lambda one: (-one.weight, one.name))[:MOST_CONCEPTS])


def _applied(exchange: Exchange, work: Work) -> list[tuple[str, float]]:
    """Return what was worked with: edited files with their technologies, programs that ran, imports written."""
    names: dict[str, float] = {}
    if work.edits:
        names |= dict.fromkeys(_of_files(exchange.facts.files[:20]), EDITED)
        names |= dict.fromkeys(_imports(exchange.assistant[:ANSWER_CHARACTERS]), NAMED)
    programs = [name for command in work.commands for name in _PROGRAM.findall(command)]
    names |= dict.fromkeys((_ALIASES.get(name, name) for name in programs if name not in _PLAIN_PROGRAMS), RUN)
    return list(names.items())


def _asked(exchange: Exchange, spoken: Spoken) -> list[tuple[str, float]]:
    """Return what prompt and answer name: technologies, files, and names of code."""
    words = (token.strip(".").lower() for token in _TOKEN.findall(spoken.text[:2_000]))
    names = dict.fromkeys((_ALIASES.get(word, word) for word in words if word in _TECHNOLOGIES), SAID)
    names |= dict.fromkeys(_of_files(_FILE.findall(spoken.text[:2_000])), SAID)
    names |= dict.fromkeys(_IDENTIFIER.findall(spoken.text[:2_000])[:8], SAID)
    for name in _IDENTIFIER.findall(exchange.assistant[:ANSWER_CHARACTERS])[:12]:
        names.setdefault(name, NAMED)
    return [(name[:NAME_CHARACTERS], gain) for name, gain in names.items()]


def _of_files(paths: Iterable[str]) -> list[str]:
    found = []
    for path in paths:
        file = path.replace("\\", "/").rsplit("/", 1)[-1]
        stem, _, suffix = file.rpartition(".")
        if suffix.lower() in _SUFFIXES:
            found.append(_SUFFIXES[suffix.lower()])
        if stem and stem.lower() not in _NO_STEMS:
            found.append(file[:NAME_CHARACTERS])
    return found


def _imports(text: str) -> list[str]:
    return [name for groups in _IMPORT.findall(text)[:12] for name in groups if name][:12]
