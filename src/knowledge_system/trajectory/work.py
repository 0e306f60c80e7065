"""What the tools of an exchange did: looked, changed, checked, and how the checks ended."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.trajectory import Intent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from knowledge_system.domain.sessions import Exchange, ToolCall

MOST_CALLS: Final = 120
"""Of longer exchanges the last calls count: they say how it ended."""
OUTPUT_CHARACTERS: Final = 1_200
COMMAND_CHARACTERS: Final = 300
ANSWER_CHARACTERS: Final = 6_000
SIGNATURE_CHARACTERS: Final = 90
READ_CHARACTERS: Final = 4_000
MOST_ERRORS: Final = 20

_EDIT = re.compile(r"(?i)edit|write|apply_patch|str_replace|patch|create_?file|insert|notebook")
_LOOK = re.compile(r"(?i)read|grep|glob|search|list|fetch|view|open|find|\bls\b|tree|navigate|get_|snapshot|web")
_RUN = re.compile(r"(?i)bash|shell|exec|command|terminal|\brun\b|powershell")
_EDIT_COMMAND = re.compile(
    r"apply_patch|\*\*\* (?:Update|Add|Delete) File|\bsed -i|\bcat >|\btee |\bgit (?:mv|rm|apply)\b"
)
_LOOK_COMMAND = re.compile(
    r"^\W*(?:(?:cd \S+ && )|(?:bash -lc\W+))*(?:ls|cat|sed -n|rg|grep|find|head|tail|pwd|wc|tree|which|git"
    r" (?:status|log|diff"
    r"|show|blame|branch))\b"
)
_CHECK_COMMAND = re.compile(
    r"\b(?:pytest|unittest|tox|jest|vitest|mocha|ctest|rspec|phpunit|nextest|playwright|cypress|mypy|ruff"
    r"|eslint|pyright"
    r"|tsc|clippy|golangci-lint)\b"
    r"|\b(?:go|cargo|npm|pnpm|yarn|bun|deno|dotnet|mvn|gradle|gradlew|make|mix|swift|zig|rake|just|sbt|flutter|bazel)"
    r"(?: +(?:run|exec|-\S+))* +[\w:./-]*(?:test|check|build|lint|compile|vet|verify|typecheck)\b"
)
_FAILURE = re.compile(
    r"[Ee]xit(?:ed)?(?: with)?(?: code)?:? [1-9]|\"exit_code\": ?[1-9]|Traceback \(most recent|\bFAILED\b|^FAIL\b"
    r"|\bfatal:|\bpanic:|command not found|\b[1-9]\d* (?:failed|failing|errors?)\b|\berror(?:\[\w+\])?: "
    r"|(?:Error|Exception): ",
    re.MULTILINE,
)
_ERROR_WORD = re.compile(
    r"(?:Error|Exception)\b|\bFAILED\b|\bfatal:|\bpanic:|\berror(?:\[\w+\])?:|command not found|No such file"
    r"|[Pp]ermission denied|ECONN\w+"
)
_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|\d+|(?:/[\w.-]+)+|\s+")
_TEST_FILE = re.compile(r"(?i)(?:^|[/_.-])(?:tests?|specs?|e2e|__tests__)(?:[/_.-])|_test\.|\.test\.|\.spec\.|test_")
_PAPER_FILE = re.compile(r"(?i)\.(?:mdx?|mdc|rst|adoc|txt)$|changelog|readme|license")
_AIDER_EDIT = re.compile(r"(?m)^<<<<<<< SEARCH|^Applied edit to \S")
_REFUSAL = re.compile(
    r"(?i)\b(?:i (?:can't|cannot|can not|am unable|'m unable|was unable|don't have (?:access|permission))"
    r"|unable to (?:access"
    r"|connect|proceed|continue)|please (?:provide|paste|share|add)|once you (?:provide|add)|usage limit|rate limit"
    r"|requires? (?:your )?(?:approval|permission|credentials)|waiting for (?:your|you))\b"
)


@dataclass(frozen=True, slots=True)
class Work:
    """Counts of calls, and how checks (tests, builds, linters) ended; `errors` are signatures of reported errors.

    `failed_last` and `passed_last` tell about the last check; both are false when nothing was checked.
    """

    looks: int = 0
    edits: int = 0
    checks: int = 0
    failed_checks: int = 0
    failed_last: bool = False
    passed_last: bool = False
    edited_tests: bool = False
    edited_papers: bool = False
    edited_sources: bool = False
    errors: tuple[str, ...] = ()
    refused: bool = False
    commands: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Tell whether a tool did anything that is understood."""
        return bool(self.looks or self.edits or self.checks)

    def suggests(self) -> Mapping[Intent, float]:
        """Return what the work says about what was wanted, in log-odds; empty when it says nothing.

        What an agent touches follows from what it was asked for, but loosely: the gains only tip doubtful prompts.
        """
        gains: dict[Intent, float] = {}
        if self.edited_papers and not self.edited_sources:
            gains[Intent.DOCUMENTATION] = 0.8
        if self.edited_tests and not self.edited_sources:
            gains[Intent.TESTING] = 0.8
        if self.edited_sources:
            gains |= dict.fromkeys((Intent.FEATURE_DEV, Intent.REFACTORING), 0.3)
            gains |= dict.fromkeys((Intent.LEARNING, Intent.EXPLORATION), -0.5)
        elif self.looks and not self.edits:
            gains[Intent.EXPLORATION] = 0.3
        return gains


def read_work(exchange: Exchange) -> Work:
    """Return what the tools of `exchange` did. Never raises; bounded by `MOST_CALLS`."""
    calls = [call for call in exchange.tools[-MOST_CALLS:] if call.agent is None]
    kinds = [_kind(call) for call in calls]
    failed = [_failed(call) for call in calls]
    checks = [bad for kind, bad in zip(kinds, failed, strict=True) if kind == "check"]
    answer = exchange.assistant[-ANSWER_CHARACTERS:]
    blocks = len(_AIDER_EDIT.findall(answer))
    paths = _edited(exchange, calls, kinds, shown=bool(blocks))
    sources = [path for path in paths if not _TEST_FILE.search(path) and not _PAPER_FILE.search(path)]
    edits = sum(kind == "edit" and not bad for kind, bad in zip(kinds, failed, strict=True)) + blocks
    return Work(
        looks=kinds.count("look"),
        edits=edits,
        checks=len(checks),
        failed_checks=sum(checks),
        failed_last=bool(checks) and checks[-1],
        passed_last=bool(checks) and not checks[-1],
        edited_tests=any(_TEST_FILE.search(path) for path in paths),
        edited_papers=any(_PAPER_FILE.search(path) for path in paths),
        edited_sources=bool(sources) or (edits > 0 and not paths),
        errors=tuple(
            dict.fromkeys(sign for call, bad in zip(calls, failed, strict=True) if bad for sign in _signs(call))
        ),
        refused=_REFUSAL.search(answer[-1500:]) is not None,
        commands=tuple(dict.fromkeys(call.input[:COMMAND_CHARACTERS] for call in calls if _RUN.search(call.name))),
    )


def signatures(text: str, most: int = 3) -> tuple[str, ...]:
    """Return the last errors that `text` reports, without what varies from run to run (numbers, paths)."""
    shown = text[-READ_CHARACTERS:]
    found: dict[str, None] = {}
    for match in islice(_ERROR_WORD.finditer(shown), MOST_ERRORS):
        start = max(shown.rfind("\n", 0, match.start()) + 1, match.start() - SIGNATURE_CHARACTERS)
        end = shown.find("\n", match.end())
        line = shown[start : min(len(shown) if end < 0 else end, match.end() + SIGNATURE_CHARACTERS)]
        found[_VARIABLE.sub(" ", line).strip().lower()[:SIGNATURE_CHARACTERS]] = None
    return tuple(found)[-most:]


def _signs(call: ToolCall) -> tuple[str, ...]:
    return signatures(call.output[-OUTPUT_CHARACTERS:], 2)


def _kind(call: ToolCall) -> str:
    if _RUN.search(call.name):
        command = call.input[:COMMAND_CHARACTERS]
        if _CHECK_COMMAND.search(command):
            return "check"
        if _EDIT_COMMAND.search(command):
            return "edit"
        return "look" if _LOOK_COMMAND.search(command) else "run"
    if _EDIT.search(call.name) and "todo" not in call.name.lower():
        return "edit"
    return "look" if _LOOK.search(call.name) else "other"


def _failed(call: ToolCall) -> bool:
    if call.is_error:
        return True
    return _RUN.search(call.name) is not None and _FAILURE.search(call.output[-OUTPUT_CHARACTERS:]) is not None


_PATH = re.compile(
    r"\"(?:file_?path|path|filename|notebook_path|target_file)\": ?\"([^\"]{1,200})\"|\*\*\* \w+ File: (\S{1,200})"
)


def _edited(exchange: Exchange, calls: Sequence[ToolCall], kinds: Sequence[str], *, shown: bool) -> list[str]:
    """Return the paths that were edited; where calls do not name them, the files of the exchange stand for them."""
    found = []
    for call, kind in zip(calls, kinds, strict=True):
        if kind == "edit":
            found += [first or second for first, second in _PATH.findall(call.input[:2_000])]
    if not found and (shown or "edit" in kinds):
        return list(exchange.facts.files[:20])
    return found
