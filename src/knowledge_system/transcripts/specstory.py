"""SpecStory Markdown, in all five generations of its headers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from knowledge_system.transcripts.capping import INPUT_LIMIT, OUTPUT_LIMIT, TEXT_LIMIT, CappedText
from knowledge_system.transcripts.noise import Turn, as_typed, kind_of
from knowledge_system.transcripts.values import written_moment

if TYPE_CHECKING:
    from datetime import datetime

    from knowledge_system.transcripts.assembly import Assembler, ExchangeDraft
    from knowledge_system.transcripts.lines import Line
    from knowledge_system.transcripts.read_log import ReadLog

NAME = "specstory_md"

MARKER = re.compile(r"^_\*\*(?P<who>User|Human|Assistant|Agent)(?P<side> - sidechain)?(?: \((?P<about>.*)\))?\*\*_\s*$")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T_]\d\d[:-]\d\d(?:[:-]\d\d)?(?: ?Z)?")
_SESSION = re.compile(r"^<!-- (?P<agent>[A-Za-z][\w .-]*?) Session (?P<id>[\w.-]+)(?: \((?P<when>[^)]*)\))? -->")
_TITLE = re.compile(r"^#{1,2} (?P<title>.*?) ?\((?P<when>[^()]*\d{1,2}:\d\d[^()]*)\)\s*$")
_DATED = re.compile(r"^# (?P<when>\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?Z?)\s*$")
_NAMED = re.compile(r'data-tool-type="(?P<type>[^"]*)" data-tool-name="(?P<name>[^"]*)"')
_SUMMARY = re.compile(r"<summary>(?:Tool use: \*\*(?P<tool>.+?)\*\*)?(?P<rest>.*?)(?:</summary>|$)")
_RESULTS = re.compile(r"\s*•\s*\*\*\d+\*\* results?\s*$")
_READ = re.compile(r"^Read file: (.+)$")
_FENCE = re.compile(r"^(?P<label>Input|Output|Result)?(?: \(truncated\))?:? ?```\w*\s*$", re.IGNORECASE)
_QUOTED = re.compile(r"`([^`]+)`")
_WRITTEN = re.compile(r"^(?:The file|File created successfully at:) (/\S+|[A-Za-z]:\\\S+)", re.MULTILINE)
_OPENING = ("<tool-use", "<think", "<details")
_AGENTS = {
    "claude code": "claude-code", "codex cli": "codex", "codex": "codex", "gemini cli": "gemini", "cursor": "cursor",
    "cursor ide": "cursor", "cursor cli": "cursor", "vscode": "copilot", "vs code copilot": "copilot",
    "droid cli": "droid", "factory droid cli": "droid",
}  # fmt: skip


class SpecStoryParser:
    """A turn starts at `_**User**_` or `_**Agent …**_`.

    Markers also stand in quoted transcripts. One counts when it carries a time outside a folded block, or follows a
    rule, a title or a comment; inside a block only when its time is later than that of the last one, which no quoted
    turn has.
    """

    def __init__(self, assembler: Assembler, log: ReadLog) -> None:
        self._to = assembler
        self._log = log
        self._asked: tuple[datetime | None, Line, CappedText] | None = None
        self._answering = False
        self._side = False
        self._held: list[str] = []
        self._after_rule = True
        self._last: datetime | None = None
        self._block: _Block | None = None
        assembler.session.agent = "cursor"

    def line(self, line: Line) -> None:
        """Read one line."""
        text = self._log.text(line)
        marker = MARKER.match(text) if text.startswith("_**") else None
        if marker and self._accepts(marker):
            self._turn(marker, line)
        elif self._block:
            self._in_block(text)
        elif not text.strip() or text == "---":
            if text or self._held[-2:] != ["", ""]:
                self._held.append(text.strip())
            self._after_rule = self._after_rule or text == "---"
        else:
            self._content(text)

    def end(self) -> None:
        """Take the last prompt, when no answer followed."""
        self._close_block()
        self._resolve()

    # --- turns

    def _accepts(self, marker: re.Match[str]) -> bool:
        when = _time_of(marker)
        if self._block:
            return when is not None and self._last is not None and when > self._last
        return when is not None or self._after_rule or (marker["who"] not in {"User", "Human"} and self._answering)

    def _turn(self, marker: re.Match[str], line: Line) -> None:
        self._close_block()
        when = _time_of(marker)
        self._last = when or self._last
        self._held, self._after_rule = [], False
        self._to.session.seen_at(when)
        self._side = marker["side"] is not None
        if marker["who"] in {"User", "Human"}:
            self._to.markers += 1
            self._resolve()
            self._answering = False
            self._asked = (when, line, CappedText(TEXT_LIMIT))
        else:
            self._resolve()
            self._answering = True
            self._start_part(marker["about"] or "")

    def _start_part(self, about: str) -> None:
        if not self._to.draft:
            return
        if not self._side:
            self._to.draft.answer.add("\n\n" if self._to.draft.answer.size else "")
        model = _TIME.sub("", about).strip()
        if found := re.match(r"model ([^,]+)", model):
            model = found[1].strip()
        if model and model != "default" and not self._side:
            self._to.draft.model = model

    def _resolve(self) -> None:
        """Decide what the user turn that ended was; an empty one keeps its slot, for its text may be an image."""
        if self._asked is None:
            return
        (when, line, capped), self._asked = self._asked, None
        text = capped.value().strip()
        turn = Turn.NOISE if self._side and not text else kind_of(text)
        if turn is Turn.PROMPT:
            self._to.begin(when, as_typed(text), at=line)
            return
        self._to.accounted += 1
        if draft := self._to.draft:
            draft.interrupted = draft.interrupted or turn is Turn.INTERRUPTION
            draft.note(text if turn is Turn.CONTEXT else "")

    # --- content

    def _content(self, text: str) -> None:
        if not self._answering and self._asked is None:
            self._head(text)
            return
        if self._answering and text.startswith(_OPENING):
            self._held, self._after_rule = [], False
            self._block = _Block(text)
            self._in_block(text, opening=True)
            return
        if self._heads(text):
            return
        self._write(text)

    def _heads(self, text: str) -> bool:
        """Whether a title stands in the middle of the file, before the next turn."""
        self._after_rule = bool(
            text.startswith("#") and _TITLE.match(text) and written_moment(_TITLE.sub(r"\g<when>", text))
        )
        return self._after_rule

    def _write(self, text: str) -> None:
        held, self._held = self._held, []
        if self._asked:
            self._asked[2].add("\n".join([*held, text, ""]))
        elif self._to.draft and not self._side:
            if read := _READ.match(text):
                self._to.draft.call("Read file", read[1])
            answer = self._to.draft.answer
            answer.add("\n".join(["" if one == "---" else one for one in held] + [text, ""]))

    def _head(self, text: str) -> None:
        """Learn the session from the comments and the title."""
        session = self._to.session
        self._held = []
        if found := _SESSION.match(text):
            session.id = found["id"]
            session.agent = _AGENTS.get(found["agent"].lower(), found["agent"].lower().replace(" ", "-"))
            session.seen_at(written_moment(found["when"] or ""))
        elif found := _TITLE.match(text):
            session.title = session.title or found["title"].strip()
            session.seed = session.seed or found["when"].strip()
            session.seen_at(written_moment(found["when"]))
        elif found := _DATED.match(text):
            session.seed = found["when"]
            session.seen_at(written_moment(found["when"]))
        elif text.startswith("# ") and not session.title:
            session.title = text[2:].strip()
            session.seed = session.seed or session.title

    # --- folded blocks

    def _in_block(self, text: str, *, opening: bool = False) -> None:
        block = self._block
        if block is None:
            return
        block.add(text, opening=opening)
        if block.closed:
            self._close_block()

    def _close_block(self) -> None:
        block, self._block = self._block, None
        if block and self._to.draft:
            block.call_on(self._to.draft, "sidechain" if self._side else None)


class _Block:
    """A folded block: a tool call with its result, or the agent's thoughts, which are not kept."""

    def __init__(self, text: str) -> None:
        self._tag = next(tag for tag in _OPENING if text.startswith(tag))
        self._end = f"</{self._tag[1:]}>"
        self._depth = 0
        named = _NAMED.search(text)
        self._type = named["type"] if named else ""
        self._name = named["name"] if named else ""
        self._given = CappedText(INPUT_LIMIT)
        self._output = CappedText(OUTPUT_LIMIT)
        self._target = self._output if self._tag == "<details" else self._given
        self._fenced = False
        self.closed = False

    def add(self, text: str, *, opening: bool) -> None:
        self._depth += text.startswith(self._tag)
        self._depth -= self._end in text
        self.closed = self._depth <= 0
        if "<summary>" in text and not self._given.size and not self._output.size:
            self._summary(text)
        elif not opening and not self.closed:
            self._body(text)

    def call_on(self, draft: ExchangeDraft, agent: str | None) -> None:
        """Add the call to the exchange."""
        if self._tag == "<think" or self._name in {"", "Thought Process"}:
            return
        given = self._given.value().strip()
        quoted = _QUOTED.search(given)
        subject = quoted[1] if quoted and self._type in {"shell", "bash", "read", "write"} else given
        output = self._output.value().strip("\n")
        draft.call(self._name, subject, agent=agent).finish(output)
        if self._type == "write":
            written = quoted[1].removeprefix("./") if quoted else "".join(_WRITTEN.findall(output)[:1])
            draft.touched([written])

    def _summary(self, text: str) -> None:
        found = _SUMMARY.search(text)
        if not found or self._name:
            return
        rest = _RESULTS.sub("", found["rest"]).strip(" •")
        if found["tool"]:
            self._name = found["tool"]
            self._given.add(rest)
            return
        words = rest.split(" ", 2)
        self._name = " ".join(words[:2])
        self._given.add(words[2] if len(words) > 2 else "")  # noqa: PLR2004 -- what follows the two words of the name

    def _body(self, text: str) -> None:
        fence = _FENCE.match(text) if "```" in text else None
        if fence:
            label = (fence["label"] or "").lower()
            if label or not self._fenced:
                self._fenced = True
                self._target = self._given if label == "input" else self._output
        elif text.strip() or self._target.size:
            self._target.add(text + "\n")


def _time_of(marker: re.Match[str]) -> datetime | None:
    found = _TIME.search(marker["about"] or "")
    return written_moment(found[0]) if found else None
