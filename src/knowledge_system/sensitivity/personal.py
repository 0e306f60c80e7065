"""Personal data that people type: e-mail addresses, telephone numbers, postal addresses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from knowledge_system.domain.sensitivity import Finding
from knowledge_system.sensitivity.reading import Reading, word_set, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,6}(?:[A-Za-z]{2,24}|xn--[A-Za-z0-9-]{2,59})(?![\w-])")
_ROLE = re.compile(
    r"(?:no-?reply|do-?not-?reply|donotreply|notifications?|mailer-daemon|git|svn|hg|example"
    r"|your[._-]?(?:email|name|address)?|email|bot)(?:[+._-].*)?\Z",
    re.IGNORECASE,
)
_EXAMPLE_DOMAIN = re.compile(
    r"(?:.*\.)?(?:example|test|invalid|localhost|local|internal)\Z|(?:.*\.)?example\.\w+\Z|(?:your|my"
    r"|some)-?(?:company|domain|org|site|email)\.\w+\Z"
    r"|(?:domain|company|email|host|acme|foo|bar|test|mail)\.(?:com|org|net)\Z"
    r"|users\.noreply\.github\.com\Z|.*noreply.*\Z",
    re.IGNORECASE,
)
_FILE_ENDINGS = word_set(
    "png jpg jpeg gif svg webp ico css scss js jsx ts tsx mjs cjs json yml yaml toml lock py pyi go rb "
    "java kt cpp hpp html htm xml txt csv log "
    "map gz tgz zip whl jar exe dll so dylib wasm service target socket timer conf cfg ini sql"
)

_INTERNATIONAL = re.compile(r"\+\d{1,3}[ .\-(]{0,2}(?:\d[ .\-()/]{0,2}){6,13}\d(?![\w-]|\.\d)")
_NORTH_AMERICAN = re.compile(
    r"(?:1[ .-])?(?:\([2-9]\d{2}\) ?[2-9]\d{2}[ .-]\d{4}|[2-9]\d{2}-[2-9]\d{2}-\d{4})(?![\w-]|\.\d)"
)
_LOCAL_NUMBER = re.compile(r"\(?\d{2,5}\)?(?:[ .\-/]{0,2}\d){5,12}(?![\w-]|\.\d)")
_DATE = re.compile(r"(?:19|20)\d\d-[01]\d-[0-3]\d")
_GLUED = frozenset("0123456789./#@$-_")
_PHONE_CONTEXT = re.compile(
    r"(?:\b(?:phone|telephone|tel|mobile|cell|cellphone|whatsapp|fax|sms|telefon\w*|t\u00e9l\w*"
    r"|tel\u00e9fono|handy|mobil|numero|n\u00famero|telepono|celular|m\u00f3vil)\b"
    r"[^\n\d]{0,24}|\b(?:call|ring|text|reach|dial|contact)\s(?:(?:me|us|him|her|them|back)\s)?(?:at|on|under|via)\s"
    r"|\b(?:my|your|his|her|our|their|the|a)\b[^\n\d]{0,24}\bnumber\b[^\n\d]{0,8}|\bnumber\s+is\s)\(?\Z",
    re.IGNORECASE,
)
_PHONE_REACH = 48
_SHORTEST = 9

_UPPER = r"[A-Z\u00c0-\u017f]"
_STREET = re.compile(
    rf"[0-9]{{1,5}}[A-Za-z]?,?\s(?:{_UPPER}[\w.'\u00c0-\u017f-]{{1,20}}\s){{1,3}}(?i:street|str\.?|road"
    rf"|rd|avenue|ave|av|boulevard|blvd|lane|ln|drive"
    r"|dr|court|ct|place|square|squares|sq|terrace|way|parkway|crescent|close|bypass|hill|highway|hwy"
    r"|route|alley|mews|grove|gardens|row|walk|quay)\b\.?"
)
_COMPOUND_STREET = re.compile(
    rf"{_UPPER}[\w\u00c0-\u017f-]{{2,24}}(?:stra\u00dfe|strasse|str\.|gasse|weg|platz|allee|gata|gatan"
    rf"|v\u00e4gen|vej|straat|laan|utca|katu|veien|gade)"
    r"\s[0-9]{1,4}\w?\b"
)
_ROMANCE_STREET = re.compile(
    r"(?:Via|Viale|Vicolo|Piazza|Corso|Rue|Calle|Carrer|Avenida|Av\.?|Rua|Pra\u00e7a|Plaza|ul\.|ulica"
    r"|Ulica|ulitsa|Calea|Strada|Boulevard)\s"
    rf"(?:(?:de[il]?|della|des?|du|la|las?|los|dos?"
    rf"|das?)\s)?(?:{_UPPER}[\w'\u00c0-\u017f.-]{{1,24}}\s){{1,4}}[0-9]{{1,5}}\b"
)
_STREETS = words_of(
    "street road avenue ave blvd boulevard lane drive court square terrace parkway crescent highway hwy "
    "mews grove rd bypass"
)
_ROMANCE_STREETS = words_of(
    "via viale vicolo piazza corso rue calle carrer avenida av rua pra\u00e7a plaza ul ulica ulitsa "
    "calea strada boulevard"
)
_STREET_ENDINGS = (
    "strasse ",
    "gasse ",
    "weg ",
    "platz ",
    "allee ",
    "gata ",
    "gatan ",
    "straat ",
    "laan ",
    "utca ",
    "katu ",
)
_FOREIGN_STREET_ENDINGS = ("stra\u00dfe ", "v\u00e4gen ")
_RESIDENCE_WORDS = words_of(
    "live lives lived living reside resides resided residing wohnt habite vive address adresse send"
)
_RESIDENCE = re.compile(
    r"(?:live[sd]?|living|resid(?:es?|ed|ing))\s(?:on|at|in)\s|wohnt\s(?:in|an)\s(?:der\s)?"
    r"|habite\s(?:au\s|\u00e0\s)?|vive\s(?:en|in)\s"
    r"|address(?:\sis)?\s{0,3}:\s{0,12}|adresse\s{0,3}:\s{0,12}|send\s(?:a\snew\sone|it|them)\sto\s"
)
_ADDRESS = re.compile(r"(?:[^\n?:;{}\[\]<>=\"|]|\n(?=[ \t]?[A-Z][^\n:]{1,40}(?:\n|\?|\Z))){6,160}")


def email_findings(text: str) -> Iterator[Finding]:
    """Yield the e-mail addresses of people; `noreply`, `git@host`, documentation domains and `file@2x.png` are none."""
    at = text.find("@")
    while at != -1:
        domain = _DOMAIN.match(text, at + 1)
        if domain:
            start = _local_start(text, at)
            if start < at and _is_mailbox(text, start, at, domain.group()):
                yield Finding(start, domain.end(), "personal", "email")
        at = text.find("@", at + 1)


def _local_start(text: str, at: int) -> int:
    start = at
    while (
        start > max(0, at - 64)
        and (text[start - 1].isalnum() or text[start - 1] in "._+%-'")
        and text[start - 1].isascii()
    ):
        start -= 1
    while start < at and not text[start].isalnum():
        start += 1
    if (
        text[start - 1 : start] == "\\" and text[start : start + 1] in "nrt"
    ):  # an escaped line break in front of the address
        start += 1
    return start


def _is_mailbox(text: str, start: int, at: int, domain: str) -> bool:
    local = text[start:at]
    if text[max(0, start - 3) : start] == "://" or text[max(0, start - 1) : start] in {"/", "@", "]", "$", "}"}:
        return False
    ending = domain.rsplit(".", 1)[1].lower()
    return not (ending in _FILE_ENDINGS or _ROLE.match(local) or _EXAMPLE_DOMAIN.match(domain))


def phone_findings(reading: Reading) -> Iterator[Finding]:
    """Yield telephone numbers: international, North American, and any other behind a word for telephone."""
    text = reading.text
    for start, _ in reading.numbers:
        while text[start - 1 : start] in {"(", "+"}:
            start -= 1  # noqa: PLW2901 -- the number begins with its parenthesis or plus
        before = text[start - 1 : start]
        if before in _GLUED and before:
            continue
        match = _phone_at(text, start, glued=before.isalpha())
        if match:
            yield Finding(match.start(), match.end(), "personal", "phone")


def _phone_at(text: str, start: int, *, glued: bool) -> re.Match[str] | None:
    match = _NORTH_AMERICAN.match(text, start)
    if match or glued:
        return match
    match = _INTERNATIONAL.match(text, start)
    if match:
        return match if _is_international(match.group()) else None
    match = _LOCAL_NUMBER.match(text, start)
    return match if match and not _DATE.match(text, start) and _announced(text, start) else None


def _announced(text: str, start: int) -> bool:
    return _PHONE_CONTEXT.search(text[max(0, start - _PHONE_REACH) : start]) is not None


def _is_international(number: str) -> bool:
    return sum(c.isdigit() for c in number) >= _SHORTEST and not number.startswith("+0") and "--" not in number


def address_findings(reading: Reading) -> Iterator[Finding]:
    """Yield postal addresses: streets with a number, and what follows `lives at` or `address:` with a number in it."""
    text = reading.text
    for expression in _street_expressions(reading):
        for match in expression.finditer(text):
            yield Finding(match.start(), match.end(), "personal", "address")
    if _RESIDENCE_WORDS.isdisjoint(reading.words):
        return
    for lead in _RESIDENCE.finditer(reading.low):
        place = _ADDRESS.match(text, lead.end())
        if place and _is_place(place.group()):
            end = lead.end() + len(place.group().rstrip(" .,\n'"))
            yield Finding(lead.end(), end, "personal", "address")


def _street_expressions(reading: Reading) -> Iterator[re.Pattern[str]]:
    if not _STREETS.isdisjoint(reading.words):
        yield _STREET
    if not _ROMANCE_STREETS.isdisjoint(reading.words):
        yield _ROMANCE_STREET
    if _has_street_ending(reading):
        yield _COMPOUND_STREET


def _has_street_ending(reading: Reading) -> bool:
    low, spelled = reading.low, reading.spelled
    if any(ending in spelled and ending in low for ending in _STREET_ENDINGS) or ("str " in spelled and "str. " in low):
        return True
    return not low.isascii() and any(ending in low for ending in _FOREIGN_STREET_ENDINGS)


def _is_place(place: str) -> bool:
    """Whether a text has a house number and a capitalised name, and nothing of a network or memory address."""
    has_number = re.search(r"(?<![\w.:])\d{1,5}(?![\w:]|\.\d)", place) is not None
    has_name = (
        re.search(r"(?<![\w.])[A-Z\u00c0-\u017f\u0370-\u03ff\u0400-\u04ff][\w\u00c0-\u017f]{2,}", place) is not None
    )
    return has_number and has_name and not re.search(r"://|@|0x|_|\(\)|\d+\.\d+\.|\\\\|localhost|[a-z][A-Z]", place)
