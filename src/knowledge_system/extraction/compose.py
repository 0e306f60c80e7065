"""A judged exchange as an item: a title that says the insight, content that stands alone, evidence that holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from textwrap import dedent
from typing import TYPE_CHECKING

from knowledge_system.domain.knowledge import Evidence, KnowledgeType
from knowledge_system.extraction.prose import Sentence
from knowledge_system.extraction.statements import Statement, best, headline, ranked, repeats, spoken

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from knowledge_system.domain.sessions import Exchange
    from knowledge_system.extraction.asks import Ask
    from knowledge_system.extraction.signals import Signals

CONTENT_CHARACTERS = 1_500
LINE_CHARACTERS = 480
TITLE_CHARACTERS = 100
SHORT_TITLE, LONG_TITLE = 30, 170
"""A statement outside these lengths says too little, or loses too much when it is cut."""
SHORTEST_CODE, CODE_CHARACTERS = 8, 280
CODE_LINES = 7
FEW_BLOCKS = 4
"""Among many blocks the short one is seldom the answer."""
MOST_FILES = 6
DEPENDENT_POINTS = 1.0
"""A title that leans on the sentence before it must at least say much."""
MOST_STATEMENTS = 7
TOLD_POINTS = 0.8
"""What is told beside the title must say something by itself."""
LEAST_POINTS = -0.5
"""A plain sentence has about zero points; below stand fragments, offers and hedges."""

_LABELS: dict[KnowledgeType, tuple[str, str, str]] = {
    KnowledgeType.BUG_SOLUTION: ("Problem", "Cause", "Fix"),
    KnowledgeType.ARCHITECTURAL_DECISION: ("Question", "Background", "Decision"),
    KnowledgeType.IMPLEMENTATION_STRATEGY: ("Goal", "Background", "Approach"),
    KnowledgeType.CODING_PATTERN: ("Goal", "Background", "Pattern"),
    KnowledgeType.TOOL_USAGE: ("Question", "Background", "Answer"),
    KnowledgeType.OPTIMIZATION: ("Problem", "Cause", "Measure"),
    KnowledgeType.INTEGRATION_PATTERN: ("Goal", "Background", "Approach"),
    KnowledgeType.REFACTORING: ("Goal", "Background", "Change"),
    KnowledgeType.TEST_STRATEGY: ("Goal", "Background", "Approach"),
    KnowledgeType.DEPLOYMENT_APPROACH: ("Goal", "Cause", "Approach"),
}
_TALK = frozenset({"narration", "question", "refusal", "offer"})
_QUOTING = frozenset({
    KnowledgeType.TOOL_USAGE, KnowledgeType.CODING_PATTERN, KnowledgeType.DEPLOYMENT_APPROACH,
    KnowledgeType.INTEGRATION_PATTERN, KnowledgeType.BUG_SOLUTION,
})  # fmt: skip
"""Types whose answer can be a short piece of code or a command."""
_NO_CODE = re.compile(r"(?m)^(?:[-+ ]{1,2}\S.*\n?){0,2}[-+] ")


@dataclass(frozen=True, slots=True)
class Composed:
    """The texts of an item and the spans they rest on."""

    title: str
    content: str
    evidence: tuple[Evidence, ...]


@dataclass(slots=True)
class _Draft:
    """Lines gathered under labels, with the evidence they use, within the room there is."""

    exchange: Exchange
    lines: list[str] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    room: int = CONTENT_CHARACTERS
    told: set[str] = field(default_factory=set)

    def tell(self, label: str, text: str, sources: Iterable[tuple[str, str, Sentence]] = ()) -> None:
        """Add a labelled line when it is new and fits, and remember where it comes from."""
        line = f"{label}: {text}"
        if not text or len(line) + 1 > self.room or text in self.told:
            return
        self.told.add(text)
        self.lines.append(line)
        self.room -= len(line) + 1
        self.evidence.extend(Evidence(owner, name, s.start, s.end) for owner, name, s in sources)

    def tell_statements(self, label: str, statements: Sequence[Statement]) -> None:
        """Add statements as one line, in the order of the answer."""
        kept: list[Statement] = []
        used = len(label) + 2
        for statement in sorted(statements, key=lambda s: s.position):
            text = statement.text
            if repeats(text, self.told) or used + len(text) + 2 > min(LINE_CHARACTERS + 200, self.room):
                continue
            used += len(text) + 2
            self.told.add(text)
            kept.append(statement)
        text = " ".join(_ended(statement.text) for statement in kept)
        self.told.discard(text)
        self.tell(label, text, ((self.exchange.id, "assistant", s.sentence) for s in kept))


def compose(signals: Signals, kind: KnowledgeType) -> Composed | None:
    """Return the item's texts, or None when no statement of the answer is worth a title.

    Nothing of other exchanges is quoted, so that forgetting an exchange also forgets what was said in it.
    """
    statements = ranked(signals)
    title = _title(statements, kind)
    if title is None:
        return None
    draft = _Draft(signals.exchange)
    asked, caused, done = _LABELS[kind]
    _tell_ask(draft, asked, signals.ask)
    causes = best(statements, "cause", 2)
    if title not in causes and "cause" in title.marks:
        causes = [title, *causes[:1]]
    fixes = _fixes(statements, title, causes)
    draft.tell_statements(caused, causes if fixes else [])
    draft.tell_statements(done, fixes or causes)
    draft.tell_statements("Why", [s for s in best(statements, "reason", 3) if s not in causes and s not in fixes][:2])
    if kind in _QUOTING:
        _tell_code(draft, signals)
    _tell_check(draft, signals, statements)
    files = shown_files(signals)
    draft.tell("Files", ", ".join(files))
    spans = tuple(dict.fromkeys(draft.evidence))
    if not title.alone and title.points < DEPENDENT_POINTS:
        return None
    return Composed(headline(title.text, TITLE_CHARACTERS), "\n".join(draft.lines), spans) if spans else None


def _title(statements: Sequence[Statement], kind: KnowledgeType) -> Statement | None:
    """Return the statement that says the insight best for this kind of item."""
    wanted = _INSIGHT.get(kind, frozenset({"cause", "choice", "reason", "done", "fact"}))

    def worth(statement: Statement) -> float:
        bonus = 1.0 * len(statement.marks & wanted) + 3.5 * statement.alone + 0.7 * (statement.sentence.kind == "prose")
        bonus += 0.8 * (statement is first) - 1.5 * ("hedge" in statement.marks)
        length = len(statement.text)
        return statement.points + bonus - (1.0 if length > LONG_TITLE else 0.0) - (1.5 if length < SHORT_TITLE else 0.0)

    first = next((s for s in statements if not s.marks & _TALK and s.marks), None)
    eligible = [s for s in statements if not s.marks & _TALK and s.points > LEAST_POINTS]
    return max(eligible, key=lambda s: (worth(s), -s.position), default=None)


_INSIGHT = {
    KnowledgeType.BUG_SOLUTION: frozenset({"cause", "done", "advice"}),
    KnowledgeType.ARCHITECTURAL_DECISION: frozenset({"choice", "reason"}),
    KnowledgeType.IMPLEMENTATION_STRATEGY: frozenset({"done", "advice", "reason"}),
    KnowledgeType.TOOL_USAGE: frozenset({"fact", "reason"}),
    KnowledgeType.OPTIMIZATION: frozenset({"cause", "done", "advice", "result"}),
    KnowledgeType.REFACTORING: frozenset({"done", "advice", "reason"}),
    KnowledgeType.TEST_STRATEGY: frozenset({"reason", "choice", "done", "advice"}),
}


def _fixes(statements: Sequence[Statement], title: Statement, causes: Sequence[Statement]) -> list[Statement]:
    """Return what was done, decided or answered: the title's sentence and the best others that go with it."""
    plain = [s for s in statements if not s.marks & _TALK and "assent" not in s.marks and s not in causes]
    rated = sorted(
        (s for s in plain if s.points >= TOLD_POINTS and not _only_checks(s)),
        key=lambda s: (-s.points - ("done" in s.marks), s.position),
    )
    lead = [] if title in causes else [title]
    return [*lead, *(s for s in rated if s is not title)][: MOST_STATEMENTS - 3]


def _only_checks(statement: Statement) -> bool:
    told = statement.marks & {"done", "cause", "choice", "reason"}
    return not told and _CHECKED.search(statement.sentence.text) is not None


def _tell_ask(draft: _Draft, label: str, ask: Ask) -> None:
    if not ask.chore:
        draft.tell(label, _clipped(spoken(ask.text)), ((draft.exchange.id, "user", s) for s in ask.sentences))
    if ask.errors and ask.errors[-1].text[:40] not in ask.text:
        draft.tell("Error", ask.errors[-1].text, ((draft.exchange.id, "user", s) for s in ask.errors[-1:]))


def _tell_code(draft: _Draft, signals: Signals) -> None:
    """Quote the shortest complete code block when it is short enough to be the answer itself."""
    text = signals.exchange.assistant
    short = [block for block in signals.prose.code if _short(text[block.start : block.end])]
    if short and len(signals.prose.code) <= FEW_BLOCKS:
        block = short[-1]
        shown = dedent(text[block.start : block.end]).strip()
        source = Sentence(shown, block.start, block.end, "code")
        lines = f"\n{shown}" if "\n" in shown else shown
        draft.tell("Example", lines, [(signals.exchange.id, "assistant", source)])


def _short(code: str) -> bool:
    size = len(code.strip())
    return (
        SHORTEST_CODE <= size <= CODE_CHARACTERS and code.strip().count("\n") < CODE_LINES and not _NO_CODE.match(code)
    )


def _tell_check(draft: _Draft, signals: Signals, statements: Sequence[Statement]) -> None:
    checked = [
        s
        for s in statements
        if _CHECKED.search(s.sentence.text) and not s.marks & _UNCHECKED and len(s.text) <= CHECK_CHARACTERS
    ]
    if checked:
        draft.tell_statements("Verified by", checked[-1:])
    elif signals.work.checked:
        draft.tell("Verified by", f"`{_clipped(signals.work.checked, 160)}`")
    elif signals.reception.accepted and not signals.ask.question:
        draft.tell("Verified by", "the user's next message accepts it")


CHECK_CHARACTERS = 220
_UNCHECKED = frozenset({"question", "offer", "hedge", "narration", "cause", "refusal", "plan"})
_CHECKED = re.compile(
    r"(?i)\b(?:tests?|suite|builds?|lint\w*|type-?checks?|checks?|examples?)\b[^.:]{0,60}\b(?:pass(?:es|ed|ing)?"
    r"|green|clean|succeed\w*|0 (?:failures|issues|errors))\b"
    r"|\b\d+ (?:tests? )?(?:passed|passing|pass)\b|\b(?:i|we) (?:verified|confirmed|measured|tested|ran|watched"
    r"|tried)\b|\A(?:verified|tested|measured) "
)


def shown_files(signals: Signals) -> list[str]:
    """Return the files the exchange was about, shortened to their last parts; each name once."""
    mentioned = sorted(name for name in signals.identifiers if _PATH.fullmatch(name))
    found: dict[str, str] = {}
    for path in (*signals.exchange.facts.files, *mentioned):
        parts = path.replace("\\", "/").strip("/").split("/")
        found.setdefault(parts[-1], "/".join(parts[-3:]))
    return list(found.values())[:MOST_FILES]


_PATH = re.compile(
    r"(?:[\w.@-]+/)*[\w.@-]+\.(?:py|pyi|tsx?|jsx?|mjs|cjs|go|rs|java|kts?|rb|php|cs|cpp|cc|hpp|c|h|swift|scala|exs?"
    r"|dart|lua|sh|sql|ya?ml|toml"
    r"|json|tf|vue|svelte|css|scss|html|hs|gd|ini|cfg|conf|env|lock|proto|gradle|xml|mk|nix|md)"
)


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?", ":", "\u3002")) else text + "."


def _clipped(text: str, most: int = LINE_CHARACTERS) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: text.rfind(" ", 0, most)] + "\u2026"
