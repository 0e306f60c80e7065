"""Credentials given away by the name they are assigned to: `PASSWORD=…`, `"api_key": "…"`, `--token …`.

A name is cut into words (`dbPassword`, `DB_PASSWORD`, `db-password`) and falls into one of three classes; the class
decides how much a value must look like a secret:

password  any value that is not an example, a type, an expression, a hash or another name
token     a value that looks random (or is a UUID, a digest-sized hexadecimal number, or full of punctuation)
key       as token, but 16 characters at least and no plain digest: keys of caches and maps are no secrets
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from knowledge_system.domain.sensitivity import Finding
from knowledge_system.sensitivity.names import NameClass, classify
from knowledge_system.sensitivity.reading import Reading, occurrences, word_set
from knowledge_system.sensitivity.values import is_passphrase, is_password, is_token

if TYPE_CHECKING:
    from collections.abc import Iterator

_LETTER_STEMS = tuple(
    sorted(word_set("pass pwd secret token key cred auth jwt verifier pswd psw kennwort contrase senha"))
)
_ENDED = "pw "
_ENDED_STEMS = ("pw:", "pw=", 'pw"', "pw'")
_FOREIGN_STEMS = (
    "\u043f\u0430\u0440\u043e\u043b\u044c",
    "\u5bc6\u7801",
    "\u5bc6\u78bc",
    "\u30d1\u30b9\u30ef\u30fc\u30c9",
    "\ube44\ubc00\ubc88\ud638",
)
_NAME_REST = re.compile(r"[\w-]{0,48}(?:[ \t](?:key|token|secret|password)\b)?", re.IGNORECASE)
_NAME_LEFT = 64
_QUOTE = r"\\{0,3}[\"'`]|[\u2018\u2019\u201c\u201d]|&\#34;|&\#39;|&quot;|&apos;"
_OPERATOR = re.compile(
    rf"(?P<close>{_QUOTE})?(?:\]|\[\w{{0,8}}\])?"
    r"(?:"
    r"(?P<assign>[ \t]{0,24}(?::[ \t]{0,2}[A-Za-z][\w.\[\]| ]{0,30}?[ \t]{0,2}=|[ \t]string[ \t]=|===?"
    r"|!==?|:=|=>|\|\|=|\?\?=|\?=|=|:|%3[dDaA]|\uff1a)"
    r"[ \t]{0,16}(?:\\n[ \t]*)?"
    r"|(?:,|\\n)?\s{0,24}\\?[\"']?value\\?[\"']?\s{0,3}[:=][ \t]{0,3})"
    r"|(?P<comma>[ \t]?,[ \t]{0,3})"
    r"|(?P<call>\([ \t]?)"
    r"|(?P<prose>[ \t]{1,2}(?:is|was|are|=)[ \t:]{1,3})"
    r"|(?P<space>[ \t]{1,3})"
    r")"
)
_WRAPPED = re.compile(r"(?:[A-Za-z_][\w.]{0,40}\([ \t]{0,2}|[bruf@L]{1,2}(?=[\"'])|\[\]byte\(|<[^<>\n]{1,60}>)")
_LOOKUP = re.compile(
    r"get|env|conf|read|load|find|quer|input|prompt|param|arg|select|require|column|field|expect|lookup|fetch",
    re.IGNORECASE,
)
_FALLBACK = re.compile(r"[A-Za-z_][\w.]{0,60}\((?:[^\n()]{0,80})\)[ \t]{0,2}(?:or|\|\||\?\?)[ \t]{0,2}(?=[\"'])")
_OPEN = re.compile(rf"\"\"\"|'''|{_QUOTE}")
_BARE = re.compile(
    r"(?:[^\s\"'`<>\\\u2018\u2019\u201c\u201d]|\\(?![nrt\"'\\]))(?:[^\s\"'`\\\u2018\u2019\u201c\u201d]"
    r"|\\(?![nrt\"'\\])){0,255}"
)
_COMPARED = re.compile(r"([\"'])([^\"'\n]{4,256})\1[ \t]{0,3}[!=]==?[ \t]{0,3}\Z")
_FORM = re.compile(r"(?:[?&;]|\s-[Fd]\s?|--(?:form|data|data-urlencode|field)[ =])[\"']?\Z")
_LONGEST_VALUE = 2048


_LINE_END = re.compile(r"[ \t]*(?:#.*|\\)?(?:\n|\r|\Z|\\n)")


class _Value(NamedTuple):
    start: int
    end: int
    quoted: bool


def assignment_findings(reading: Reading) -> Iterator[Finding]:
    """Yield the values behind the names of credentials."""
    text, done = reading.text, 0
    for start, end in _stems(reading):
        if start < done:
            continue
        rest = _NAME_REST.match(text, end)
        name_end = rest.end() if rest else end
        name_start = _name_start(text, start, done)
        finding = _judge_name(text, name_start, name_end)
        done = name_end
        if finding:
            done = max(done, finding.end)
            yield finding


def _stems(reading: Reading) -> list[tuple[int, int]]:
    """Return where the stems of credentials' names occur, in order."""
    spelled = reading.spelled
    present = [stem for stem in _LETTER_STEMS if stem in spelled]
    if _ENDED in spelled:
        present += _ENDED_STEMS
    if not reading.low.isascii():
        present += _FOREIGN_STEMS
    spans = [(at, at + len(stem.rstrip(":=\"'"))) for stem in present for at in occurrences(reading.low, stem)]
    return sorted(spans)


def _name_start(text: str, at: int, floor: int) -> int:
    stop = max(floor, at - _NAME_LEFT)
    while at > stop and (text[at - 1].isalnum() or text[at - 1] in "_-$."):
        at -= 1
    if at and text[at - 1] == "\\" and text[at] in "nrt":  # the n of an escaped line break is no part of the name
        at += 1
    return at


def _judge_name(text: str, start: int, end: int) -> Finding | None:
    name = text[start:end]
    name_class = classify(name)
    if name_class is None:
        return None
    compared = "=" in text[max(0, start - 4) : start] and _COMPARED.search(text, max(0, start - 264), start)
    if compared and judge(name_class, _Context(name, "assign", compared.group(2), quoted=True)):
        return Finding(*compared.span(2), "secret", name_class.kind)
    operator = _OPERATOR.match(text, end)
    if operator is None or not operator.lastgroup:
        return None
    return _judge_value(text, start, name_class, operator)


def _judge_value(text: str, start: int, name_class: NameClass, operator: re.Match[str]) -> Finding | None:
    value = _read_value(text, operator.end(), wrapped=operator.lastgroup != "space")
    if value is None:
        return None
    context = _Context(
        text[start : operator.start()],
        str(operator.lastgroup),
        text[value.start : value.end],
        quoted=value.quoted,
        sign=operator.group().strip(" \t\"'`\\"),
        spaced=operator.group()[-1] in " \t",
        closed=operator.group("close") is not None,
        line_end=_ends_line(text, value),
        line_start=_starts_line(text, start),
        in_form=_FORM.search(text, max(0, start - 16), start) is not None,
    )
    if not judge(name_class, context):
        return None
    end = value.end if value.quoted else value.start + len(context.value.rstrip(_TRAILING))
    return Finding(value.start, end, "secret", name_class.kind) if end > value.start else None


_TRAILING = ",;)]}>|&"


class _Context(NamedTuple):
    """A value with what stands around it: its name, the operator between, quotes, spaces, and the ends of the line."""

    name: str
    operator: str
    value: str
    quoted: bool = False
    sign: str = ""
    spaced: bool = False
    closed: bool = False
    line_end: bool = False
    line_start: bool = False
    in_form: bool = False


def judge(name_class: NameClass, context: _Context) -> bool:
    """Whether the value in `context` is a credential."""
    if context.operator in {"comma", "call"}:
        return (
            context.quoted
            and name_class.compound
            and (context.operator == "call" or context.closed)
            and is_token(context.value, 16)
        )
    if context.operator == "space":
        return _is_argument(name_class, context)
    if context.operator == "prose":
        return name_class.password and is_password(context.value.rstrip(".,;!"), prose=True)
    if context.quoted:
        if name_class.password and " " in context.value:
            return context.sign.startswith("=") and is_passphrase(context.value)
        return (
            is_password(context.value, caption=context.sign != "=")
            if name_class.password
            else is_token(context.value, name_class.least, digests=name_class.digests)
        )
    return _is_bare_value(name_class, context)


def value_kind(name: str, value: str) -> str | None:
    """Return the kind of credential that `value` is under the name `name` of a structured document, or None."""
    name_class = classify(name)
    if name_class is None or not judge(name_class, _Context(name, "assign", value, quoted=True, sign=":")):
        return None
    return name_class.kind


def _is_argument(name_class: NameClass, context: _Context) -> bool:
    """Whether a value after a mere space belongs to the name: `--token VALUE`, `requirepass "value"`, `token 7f10…`."""
    value = context.value
    if context.name.startswith(("-", "/")):
        return not value.startswith("-") and (
            is_password(value) if name_class.password else is_token(value, name_class.least)
        )
    if context.quoted:
        return context.line_start and is_password(value, prose=True)
    return (
        name_class.kind != "api-key"
        and len(value) >= _UNMISTAKABLE
        and len(value) != _GIT_DIGEST
        and is_token(value, _UNMISTAKABLE)
    )


_UNMISTAKABLE = 32
_GIT_DIGEST = 40


def _is_bare_value(name_class: NameClass, context: _Context) -> bool:
    core = context.value.rstrip(_TRAILING)
    if not name_class.password:
        return is_token(core, name_class.least, bare=True, digests=name_class.digests)
    if context.sign == ":" and context.name.lower() == "pass":  # the verdict of a test more often than a password
        return not context.name.isupper() and is_password(core, prose=True)
    if _A_NAME.match(core) and not _is_plain_setting(context):
        return is_password(core, prose=True)
    return is_password(core, bare=True)


_A_NAME = re.compile(r"[A-Za-z_$][\w$.]*\Z")
_CAMEL = re.compile(r"[a-z][A-Z]")


def _is_plain_setting(context: _Context) -> bool:
    """Whether a bare word is the value of a setting (`DB_PASSWORD=word`, `password: word`), not a name in code."""
    if context.value[-1] in _TRAILING or "." in context.value or _CAMEL.search(context.value):
        return False
    if context.sign == ":":
        return context.line_start and context.line_end and context.spaced and not _CAMEL.search(context.name)
    return not context.spaced and (context.name.isupper() or context.name.startswith("-") or context.in_form)


def _read_value(text: str, at: int, *, wrapped: bool) -> _Value | None:
    if wrapped:
        at = _unwrapped(text, at)
    opening = _OPEN.match(text, at)
    if opening:
        return _quoted(text, opening)
    bare = _BARE.match(text, at)
    return _Value(*bare.span(), quoted=False) if bare else None


def _unwrapped(text: str, at: int) -> int:
    """Return where the literal starts in `SecretStr("…")`, `aws.String("…")`, `b"…"`, `os.getenv("X") or "…"`."""
    if fallback := _FALLBACK.match(text, at):
        return fallback.end()
    for _ in range(2):
        wrapper = _WRAPPED.match(text, at)
        if wrapper and not _LOOKUP.search(wrapper.group()):
            at = wrapper.end()
    return at


_CLOSING = {"\u2018": "\u2019", "\u201c": "\u201d"}


def _quoted(text: str, opening: re.Match[str]) -> _Value | None:
    """Return the text up to the same quote, on the same line; a string that never ends is read as a bare word."""
    quote = opening.group()
    start = opening.end()
    closing = _CLOSING.get(quote, quote)
    limit = min(len(text), start + _LONGEST_VALUE)
    at = text.find(closing, start, limit)
    while at > start and closing in "\"'`" and text[at - 1] == "\\" and text[at - 2] != "\\":
        at = text.find(closing, at + 1, limit)
    newline = text.find("\n", start, limit)
    if at == -1 or (newline != -1 and newline < at):
        bare = _BARE.match(text, start)
        return _Value(*bare.span(), quoted=False) if bare else None
    return _Value(start, at, quoted=True) if at > start else None


def _ends_line(text: str, value: _Value) -> bool:
    return _LINE_END.match(text, value.end) is not None


def _starts_line(text: str, start: int) -> bool:
    lead = text[max(0, start - 40) : start]
    return lead.rpartition("\n")[2].strip(" \t-#\"'") == ""
