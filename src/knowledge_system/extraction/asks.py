"""What the user asked: the sentences that say it, the errors pasted with it, and what kind of request it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from knowledge_system.extraction.prose import Sentence, read_prose
from knowledge_system.extraction.wording import marks, words_of

ASK_CHARACTERS = 280
"""Length of the cleaned ask that an item may quote."""
ERROR_CHARACTERS = 180
PROMPT_CHARACTERS = 4_000
"""What is asked stands at the beginning of a prompt; what follows is pasted."""
CHORE_WORDS = 14
"""A longer prompt that begins like a chore ("run the tests and …") asks for more."""
REPORT_CHARACTERS = 6_000
"""Errors stand at the end of what was pasted."""

_ERROR = re.compile(
    r"\b[A-Za-z_.]{0,60}(?:Error|Exception)\b[^\S\n]{0,3}[:(\-][^\n]{3,300}"
    r"|(?m:^[ \t>#|\d:.\-Z\[\]]{0,40}(?:error|fatal|panic|FAILED|FAIL|ERROR|Error|E {2,8})\b[^\n]{4,300})"
    r"|\b(?:fails?|failed|failing|exited?) with\b[^\n]{4,200}|\breturned error: [^\n]{3,100}"
    r"|\b(?:ENOENT|EACCES|ECONNREFUSED|ETIMEDOUT|EADDRINUSE|SIGSEGV|SIGKILL|OOMKilled)\b[^\n]{0,160}"
    r"|(?m:(?:^|: )(?:cannot|could not|unable to|undefined|no such|permission denied)\b[^\n?]{4,160}$)"
)
_MARGIN = re.compile(r"\A(?:\s+|E {2,8}|[>#|]+ )+")
_PASTED = re.compile(
    r"[ \t]*(?:\S+\(.*\)[;,]?$|[\w.]+ = |at \S|File \"|\d{4}-\d\d-\d\d|\[\d|\d\d:\d\d|\$ |\u276f|>>> |\^|~|\||\+"
    r"|\d+ \||[\w./-]+:\d+|\w+@\w+|#\d+ |[-drwx]{10} )"
)
_MENTION = re.compile(r"(?<!\w)@([\w./-]+)")
_WRAPPER = re.compile(r"</?[\w-]{2,40}>|\[Image[^\]]{0,60}\]|\[Pasted[^\]]{0,60}\]")
_CHORE = re.compile(
    r"(?i)\W*(?:(?:ok|okay|yes|yeah|yep|sure|please|pls|great|thanks|now|and|then|can you|could you|go ahead"
    r"|alright)[\s,.!-]+){0,4}"
    r"(?:commit|push|merge|rebase|stage|continue|proceed|go ahead|go on|do it|do that|run it|run that|run the "
    r"tests?|try again|retry|resume|next"
    r"|keep going|carry on|approved?|accept|yes|yep|yeah|no|nope|ok|okay|sure|thanks?|thank you|lgtm|stop|wait|exit"
    r"|clear|compact"
    r"|create (?:a |the )?(?:pr|pull request|issue|ticket|branch)|open (?:a |the )?(?:pr|pull request)|update "
    r"(?:the )?(?:pr|ticket|issue|todo|plan)"
    r"|bump|release|log (?:a|an)|mark|close it|undo|revert|start|both|all of them|\d{1,2}(?:[ ,]+(?:and )?\d{1,2})*"
    r"|[a-d])\b"
)
_COMMAND = re.compile(r"\s*(?:/[a-z][\w:-]*|<command-name>|![\w./-]+ )")
_QUESTION = re.compile(
    r"(?i)\b(?:why|how|what|which|where|when|who|does|do|is|are|can|could|should|would|isn't|doesn't|won't|right"
    r"|or)\b[^?\n]{0,300}\?|[\uff1f]"
)
_PLAN = re.compile(
    r"(?i)\A\W{0,4}implement (?:the following|this|the attached|my)? ?plan\b|\A\W{0,4}(?:here is|here's) (?:the|my) "
    r"plan\b"
)
_TROUBLE = re.compile(
    r"(?i)\b(?:error|exception|fail(?:s|ed|ing|ure)?|bug|broken|broke|crash(?:es|ed|ing)?|wrong|not working|doesn't "
    r"work|does not work|didn't work"
    r"|isn't working|hangs?|stuck|traceback|still|unexpected(?:ly)?|missing|weird|issue|problem|fehler|kaputt|erro"
    r"|falla|ошибк\w*|не работает)\b"
    r"|报错|错误|失败|不工作|エラー"
)
_GROUND = re.compile(r"(?i)\b(?:context|background|problem|motivation|why|symptom|issue|summary|goal|overview)\b")


@dataclass(frozen=True, slots=True)
class Ask:
    """The request. `sentences` say it (spans in the prompt); `errors` are pasted error lines with their spans.

    `title` is the heading of a handed-over plan, otherwise empty.
    """

    sentences: tuple[Sentence, ...] = ()
    errors: tuple[Sentence, ...] = ()
    words: int = 0
    chore: bool = False
    question: bool = False
    plan: bool = False
    trouble: bool = False
    title: str = ""

    @property
    def text(self) -> str:
        """Return the request in one line, cleaned and capped."""
        return " ".join(sentence.text for sentence in self.sentences)


def read_ask(prompt: str) -> Ask:
    """Return what `prompt` asks for; logs and code pasted with it are left out of its sentences."""
    plan = _PLAN.search(prompt) is not None
    spoken = [s for s in read_prose(prompt[:PROMPT_CHARACTERS]).sentences if not _PASTED.match(prompt, s.start)]
    chosen = _plan_ground(spoken) if plan else _opening(spoken)
    words = len(words_of(prompt[:PROMPT_CHARACTERS]))
    errors = error_lines(prompt)
    return Ask(
        sentences=chosen,
        errors=errors,
        words=words,
        chore=_is_chore(prompt, words),
        question=_QUESTION.search(prompt[:1_500]) is not None or prompt.rstrip().endswith("?"),
        plan=plan,
        trouble=bool(errors) or _TROUBLE.search(prompt[:PROMPT_CHARACTERS]) is not None,
        title=_plan_title(spoken) if plan else "",
    )


def error_lines(text: str, most: int = 3) -> tuple[Sentence, ...]:
    """Return the last `most` distinct lines of `text` that report an error, with their spans."""
    found: dict[str, Sentence] = {}
    offset = max(0, len(text) - REPORT_CHARACTERS)
    for match in _ERROR.finditer(text, offset):
        raw = match.group()
        kept = _MARGIN.sub("", raw, count=1)
        start = match.start() + len(raw) - len(kept)
        shown = " ".join(kept.split())[:ERROR_CHARACTERS]
        found.pop(shown, None)
        found[shown] = Sentence(shown, start, start + len(kept.rstrip()), "error")
    return tuple(list(found.values())[-most:])


def _is_chore(prompt: str, words: int) -> bool:
    return (
        words == 0 or _COMMAND.match(prompt) is not None or (words <= CHORE_WORDS and _CHORE.match(prompt) is not None)
    )


def _opening(spoken: list[Sentence]) -> tuple[Sentence, ...]:
    """Return the first sentences that fit, led by what the user asks rather than by what the user reports."""
    chosen: list[Sentence] = []
    room = ASK_CHARACTERS
    for sentence in spoken:
        shown = Sentence(spoken_text(sentence.text)[:ASK_CHARACTERS], sentence.start, sentence.end, sentence.kind)
        if sentence.kind == "heading" and len(spoken) > 1:
            continue
        if shown.text and len(shown.text) <= room:
            chosen.append(shown)
            room -= len(shown.text) + 1
        if room < 60 or len(chosen) == 3:  # noqa: PLR2004 -- what a reader takes in at a glance
            break
    return tuple(chosen)


def _plan_title(spoken: list[Sentence]) -> str:
    """Return the first heading that is neither the request to carry out the plan nor the name of a usual section."""
    headings = (s.text for s in spoken if s.kind == "heading")
    return next((text for text in headings if not _PLAN.search(text) and not _GROUND.fullmatch(text)), "")


def _plan_ground(spoken: list[Sentence]) -> tuple[Sentence, ...]:
    """Return the title of a handed-over plan and the sentences under its context heading."""
    titles = [s for s in spoken if s.kind == "heading" and not _GROUND.search(s.text)][:1]
    ground = [s for s in spoken if s.kind != "heading" and _GROUND.search(s.section)]
    return _opening([s for s in ground if "question" not in marks(s.text)]) or tuple(titles)


def spoken_text(text: str) -> str:
    """Return `text` without mention signs, image marks and tags."""
    return " ".join(_MENTION.sub(r"\1", _WRAPPER.sub(" ", text)).split())
