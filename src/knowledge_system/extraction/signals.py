"""What a transcript really shows about an exchange: the ask, the answer, the work done, and how it was received."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from knowledge_system.extraction.asks import Ask, error_lines, read_ask
from knowledge_system.extraction.prose import Prose, Sentence, read_prose
from knowledge_system.extraction.wording import marks, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from knowledge_system.domain.knowledge import Episode
    from knowledge_system.domain.sessions import Exchange, ToolCall

OUTPUT_CHARACTERS = 1_500
"""Of a tool's output the end is looked at: that is where compilers and test runners say how it went."""
MOST_CALLS = 80
COUNTED_CHARACTERS = 6_000
FINAL_SENTENCES = 8

_EDIT = re.compile(r"(?i)edit|write|apply_patch|str_replace|replace|patch|create_?file|save")
_RUN = re.compile(r"(?i)bash|shell|exec|command|terminal|\brun\b|powershell")
_CHECK = re.compile(
    r"\b(?:pytest|unittest|tox|jest|vitest|mocha|ctest|rspec|phpunit|gotest|nextest|playwright|cypress)\b"
    r"|\b(?:go|cargo|npm|pnpm|yarn|bun|deno|dotnet|mvn|gradle|gradlew|make|mix|swift|zig|rake|composer|mise|just"
    r"|sbt|flutter|bazel)"
    r"(?:[ ]+(?:run|exec|x|-\S+))*[ ]+[\w:./-]*(?:test|check|build|lint|compile|vet|verify|typecheck|clippy|package"
    r"|install)\b"
    r"|\b(?:tsc|mypy|ruff|eslint|golangci-lint|pyright|clippy|cmake|gcc|javac|terraform (?:plan|validate|apply)"
    r"|docker(?: compose)? build|curl|kubectl)\b"
)
_FAILURE = re.compile(
    r"[Ee]xit(?:ed)?(?: with)?(?: code)?:? [1-9]|\"exit_code\": ?[1-9]|Traceback \(most recent|\bFAILED\b|^FAIL\b"
    r"|\bfatal:|\bpanic:"
    r"|<tool_use_error>|command not found"
    r"|\b[1-9]\d* (?:failed|failing|errors?)\b|\berror(?:\[\w+\])?: |(?:Error|Exception): ",
    re.MULTILINE,
)
_IDENTIFIER = re.compile(
    r"`[^`\n]{2,80}`|(?<![\w/.-])(?:[\w.-]+/)+[\w.-]+\.\w{1,8}\b|\b[a-z]\w*_\w+\b|\b[a-z]+[A-Z]\w+\b"
    r"|\b[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+\b"
    r"|\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b|(?<!\S)--?[a-z][\w-]+|\b\w+\.\w+\(\)?|\b[\w-]+\.(?:py|ts|tsx|js|go|rs|java|kt"
    r"|rb|php|cs|cpp|c|h|md|ya?ml|json|toml|sql|sh|css|html)\b"
)
_NAMED = re.compile(r"[`_/]|[a-z][A-Z]|\w\.\w|(?<!\S)-")
_ACCEPTED = re.compile(
    r"(?i)\W*(?:thanks?\b|thank you|thx|perfect|great|nice|awesome|excellent|cool|lovely|wonderful|amazing|good "
    r"(?:job|work|catch)|lgtm|looks? good"
    r"|(?:ok|okay|yes|yep)?[ ,.!]*(?:it |that |this |everything )?(?:now )?(?:works?|worked|is working|fixed|did "
    r"it)\b|works\b|commit|push|merge"
    r"|go ahead|ship it|(?:ok|yes|yep|yup|yeah|sure|right|good|done)\b|danke|gracias|obrigad|merci|спасибо|谢谢|很好"
    r"|可以了|ありがとう)"
)
_CORRECTED = re.compile(
    r"(?i)\W*(?:no\b(?! problem)|nope|wrong|still\b|stop\b|wait\b|hmm+\b|not (?:quite|really|what|working|right)"
    r"|that(?:'s| is|s) (?:not|wrong|incorrect)"
    r"|(?:it|this|that) (?:still|doesn'?t|does not|didn'?t|did not|isn'?t|is not|fails?|broke|hangs)|you (?:broke"
    r"|forgot|missed|didn'?t|removed|did not)"
    r"|why did you|are you sure|i (?:still|don'?t (?:think|see|get)|mean\b|did\b)|same (?:error|issue|problem"
    r"|thing)|again\b|uhh+\b|huh\b|what are you talking|you (?:left|lost|sure)|did you (?:actually|really|even"
    r"|apply|also|just)|it'?s (?:not|still)|its (?:not|still)|but\b|or is\b|what about this error|actually,? (?:no"
    r"|got|i got)|nein\b|não\b|immer noch|sigue|ainda|не работает|нет\b|不对|还是|没有)"
    r"|\b(?:still (?:fail|get|see|hav|not|the same|broken|hang|show|wrong)\w*|(?:doesn'?t|didn'?t|does not|did not"
    r"|not) (?:work|help|fix|change anything)\w*"
    r"|(?:did|does) nothing|got worse|you broke|same error|happened again)\b"
)
_UNDONE = re.compile(
    r"(?i)\b(?:revert|undo|roll ?back|put it back|change it back|restore the|forget (?:about )?(?:it|that|the)"
    r"|never ?mind|scrap (?:that|this|it)|start over"
    r"|go back to the|i (?:want|would like) the old)\b"
)
_TROUBLED = re.compile(
    r"(?i)\b(?:error|exception|traceback|fail(?:s|ed|ing)|broken?|broke|wrong|not working|(?:doesn|didn|isn|don|won"
    r"|can)'?t (?:work|see|show|open|seem)"
    r"|hangs?|hanging|stuck|still|got new|happened again|weird|missed|forgot|left out|should ?n'?t|nothing)\b|报错|错误"
    r"|失败|ошибк|fehler"
)


@dataclass(frozen=True, slots=True)
class Work:
    """What the tools did.

    `failures` are the error lines of failed calls; `recovered`: a failure, then an edit, then a check that passes.
    """

    calls: int = 0
    edits: int = 0
    commands: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    recovered: bool = False
    checked: str = ""
    failed_last: bool = False


@dataclass(frozen=True, slots=True)
class Reception:
    """How the next prompts took the answer; all false when nothing followed."""

    followed: bool = False
    accepted: bool = False
    corrected: bool = False
    undone: bool = False
    repeated: bool = False
    trouble: bool = False


@dataclass(frozen=True)
class Signals:
    """Everything the judgement rests on."""

    exchange: Exchange
    ask: Ask
    prose: Prose
    work: Work
    reception: Reception

    @cached_property
    def statements(self) -> tuple[tuple[Sentence, frozenset[str]], ...]:
        """Return the sentences of the answer with what each does."""
        return tuple((sentence, marks(sentence.text)) for sentence in self.prose.body)

    @cached_property
    def vocabulary(self) -> Counter[str]:
        """Return how often each lower-case word occurs in the answer's sentences, of which the first are counted."""
        return Counter(words_of(" ".join(sentence.text for sentence in self.prose.sentences)[:COUNTED_CHARACTERS]))

    @cached_property
    def identifiers(self) -> frozenset[str]:
        """Return the distinct names of code, files, flags and settings in the answer's sentences."""
        return frozenset(name for sentence in self.prose.body for name in identifiers(sentence.text))


@lru_cache(maxsize=4096)
def identifiers(text: str) -> tuple[str, ...]:
    """Return the names of code, files, flags and settings in `text`, without code marks."""
    if not _NAMED.search(text):
        return ()
    return tuple(match.strip("`") for match in _IDENTIFIER.findall(text))


def read_signals(episode: Episode) -> Signals:
    """Return what the transcript shows about `episode`."""
    exchange = episode.exchange
    ask = read_ask(exchange.user)
    return Signals(
        exchange=exchange,
        ask=ask,
        prose=read_prose(exchange.assistant),
        work=_work(exchange.tools[-MOST_CALLS:]),
        reception=_reception(ask, exchange, episode.following),
    )


def _work(calls: Sequence[ToolCall]) -> Work:
    own = [(position, call, _failed(call)) for position, call in enumerate(calls) if call.agent is None]
    edits = [position for position, call, _ in own if _EDIT.search(call.name) and not call.is_error]
    runs = [(position, call, failed) for position, call, failed in own if _RUN.search(call.name)]
    checks = [(position, call, failed) for position, call, failed in runs if _CHECK.search(_head(call.input))]
    failures = [position for position, _, failed in runs if failed]
    passing = [position for position, _, failed in checks if not failed]
    return Work(
        calls=len(own),
        edits=len(edits),
        commands=tuple(dict.fromkeys(_head(call.input) for _, call, failed in runs if call.input and not failed)),
        failures=tuple(line.text for _, call, failed in own if failed for line in error_lines(_end(call.output), 1)),
        recovered=any(f < e < p for f in failures for e in edits for p in passing[-1:]),
        checked=next((_head(call.input) for _, call, failed in reversed(checks) if not failed and call.output), ""),
        failed_last=bool(checks) and checks[-1][2],
    )


def _failed(call: ToolCall) -> bool:
    return call.is_error or (_RUN.search(call.name) is not None and _FAILURE.search(_end(call.output)) is not None)


def _head(command: str) -> str:
    return command[:600]


def _end(output: str) -> str:
    return output[-OUTPUT_CHARACTERS:]


def _reception(ask: Ask, exchange: Exchange, following: Sequence[Exchange]) -> Reception:
    prompts = [later.user[:1_200] for later in following[:2] if later.user.strip()]
    if not prompts:
        return Reception()
    nearest = prompts[0]
    corrected = _CORRECTED.search(nearest[:400]) is not None
    return Reception(
        followed=True,
        accepted=_ACCEPTED.match(nearest) is not None and not corrected,
        corrected=corrected,
        undone=any(_UNDONE.search(prompt[:400]) for prompt in prompts),
        repeated=_same_complaint(ask, exchange.user, nearest),
        trouble=_TROUBLED.search(nearest) is not None,
    )


def _same_complaint(ask: Ask, prompt: str, later: str) -> bool:
    """Tell whether the next prompt reports the same error, or is nearly the same prompt."""
    before = {_signature(line.text) for line in ask.errors}
    after = {_signature(line.text) for line in error_lines(later)}
    if before & after:
        return True
    first, second = set(words_of(prompt[:600])), set(words_of(later[:600]))
    return len(first) > 3 and len(first & second) > 0.7 * len(first | second)  # noqa: PLR2004 -- a reworded repeat


def _signature(line: str) -> str:
    return re.sub(r"\d+|0x[0-9a-f]+|\S*/\S*", "#", line.lower())[:80]


def last_statements(signals: Signals, most: int = FINAL_SENTENCES) -> Iterable[tuple[Sentence, frozenset[str]]]:
    """Return the last sentences of the answer: what it ended with."""
    return signals.statements[-most:]
