"""Numbers that identify people or their money: cards, IBAN, social security, tax, passport, national identity, plates.

Numbers with a checksum are verified (python-stdnum). A number without an unmistakable notation needs a word nearby that
says what it is: nine bare digits are more often a counter than a tax number.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from stdnum import iban, luhn

from knowledge_system.domain.sensitivity import Finding
from knowledge_system.sensitivity.reading import Reading, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_REACH = 48
_LONE = 24
_LONE_NUMBER = re.compile(r"\s*(?:[A-Z]\d{8}|(?!1\d{9}\s*\Z|1\d{12}\s*\Z)(?:\d{8,17}|\d{3} \d{3} \d{3}))\s*\Z")
_ENOUGH_DIGITS = re.compile(r"[0-9](?:[ ./-]?[0-9]){2}")
_CARD = re.compile(r"(?<![\w.#/-])\d(?:[ -]?\d){11,18}(?![\w-]|\.\d)")
_CARD_PREFIX = re.compile(
    r"4\d{12}(?:\d{3})?(?:\d{3})?\Z|5[1-5]\d{14}\Z|2[2-7]\d{14}\Z|3[47]\d{13}\Z|3(?:0[0-5]"
    r"|[689]\d)\d{11}\Z|6(?:011|4[4-9]\d|5\d\d)\d{12}\Z|35\d{14}\Z|62\d{14,17}\Z"
)
_CARD_WORD = re.compile(
    r"\b(?:card|credit|debit|visa|mastercard|amex|maestro|karte|carte|tarjeta|pan)\b", re.IGNORECASE
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_SSN = re.compile(r"(?<![\w.-])(?!000|666|9\d\d)\d{3}(?P<sep>[- .])(?!00)\d{2}(?:(?P=sep))(?!0000)\d{4}(?![\w-]|\.\d)")
_ITIN = re.compile(r"(?<![\w.-])9\d{2}-(?:5\d|6[0-5]|7\d|8[0-8]|9[0-24-9])-\d{4}(?![\w-])")


class _Scheme(NamedTuple):
    """A kind of number: slug, the phrases that announce it, singly with their first words too, and its notation."""

    kind: str
    phrases: re.Pattern[str]
    alternatives: tuple[tuple[str, str], ...]
    first_words: frozenset[bytes]
    notation: re.Pattern[str]


def _scheme(kind: str, phrases: str, notation: str) -> _Scheme:
    alternatives = [phrase.strip() for phrase in phrases.split(",")]
    expression = "|".join(sorted((re.escape(phrase) for phrase in alternatives), key=len, reverse=True))
    first_words = [re.split(r"\W", phrase)[0] for phrase in alternatives]
    return _Scheme(
        kind,
        re.compile(rf"\b(?:{expression})\b"),
        tuple(zip(first_words, alternatives, strict=True)),
        words_of(*first_words),
        re.compile(rf"(?<![\w-])(?:{notation})(?![\w-])"),
    )


_SCHEMES = (
    _scheme(
        "passport",
        "passport, passports, travel document, reisepass, passeport, pasaporte",
        r"[A-Z]{1,2}\d{6,8}|\d{8,9}|[CFGHJKLMNPRTVWXYZ0-9]{9}\d?",
    ),
    _scheme("social-security", "ssn, social security, social sec", r"\d{3}[- .]?\d{2}[- .]?\d{4}"),
    _scheme(
        "tax-number",
        "itin, taxpayer, tax id, tax number, tax file, tfn, steuernummer, steuer-id, identifikationsnummer, nif, vat",
        r"\d{2,3}(?:[ ./-]?\d{2,5}){2,4}|[A-Z]?\d{7,8}-?[A-Z]",
    ),
    _scheme("tax-number", "tin, bir", r"\d{3}-?\d{3}-?\d{3}(?:-?\d{3,5})?"),
    _scheme("tax-number", "pan", r"[A-Z]{5}\d{4}[A-Z]"),
    _scheme(
        "national-id",
        "national insurance, nino, ni number",
        r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]",
    ),
    _scheme(
        "national-id",
        "nie, dni, extranjero, identidad, identificaci\u00f3n, identificacion",
        r"[XYZxyz]?\d{7,8}-?[A-Za-z]",
    ),
    _scheme("national-id", "rrn, frn, resident registration, foreigner registration, korean", r"\d{6}-?\d{7}"),
    _scheme("national-id", "nric, fin, singapore", r"[STFGM]\d{7}[A-Z]"),
    _scheme("company-number", "uen", r"\d{8,9}[A-Z]|[TSR]\d{2}[A-Z]{2}\d{4}[A-Z]"),
    _scheme(
        "company-number",
        "abn, acn, handelsregister, handelsregisternummer, amtsgericht, registergericht",
        r"HR[AB] ?\d{1,6}(?: ?[A-Z])?|\d{2,3}(?: ?\d{3}){2,3}",
    ),
    _scheme(
        "national-id",
        "personnummer, personal identity, personal identification, pnr, samordningsnummer, cpr, "
        "f\u00f8dselsnummer, henkil\u00f6tunnus, pesel, "
        "cnp, rodn\u00e9, nin, aadhaar, cpf, curp, bsn",
        r"(?:19|20)?\d{6}[-+A]?\d{3}[0-9A-Z]|\d{11,12}|\d{3}\.\d{3}\.\d{3}-\d{2}|\d{4} \d{4} \d{4}"
        r"|[A-Z]{4}\d{6}[HM][A-Z]{5}\w{2}",
    ),
    _scheme(
        "national-id",
        "id number, id card, id no, your id, my id, his id, her id, their id, national id, sa id, identity "
        "number, identity card, identity document, "
        "identification number, resident number, refugee, citizen number, citizenship number, thai id, south african",
        r"\d{13}|\d-\d{4}-\d{5}-\d{2}-\d|\d{3}-\d{3}-\d{3}-\d{3,5}",
    ),
    _scheme("national-id", "codice fiscale, fiscal code", r"[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]"),
    _scheme("national-id", "vote, voter, voting, epic", r"[A-Z]{3}\d{7}"),
    _scheme(
        "driving-licence",
        "driver license, driver's license, drivers license, driving license, driving licence, "
        "f\u00fchrerschein, licence number, license number, "
        "permis de conduire",
        r"[A-Z0-9]{5,16}\d[A-Z0-9]{0,3}|\d{2}-\d{2}-\d{6}-\d{2}",
    ),
    _scheme(
        "number-plate",
        "plate, plates, plate number, kennzeichen, vehicle, vehicle registration, fahrzeug, license plate, "
        "registration number, matr\u00edcula, "
        "immatriculation",
        r"[A-Z\u00c4\u00d6\u00dc]{1,3}[ -][A-Z]{1,2}[ -]?\d{1,4}[EH]?|[A-Z]{3}-\d{3}[A-Z]{2}",
    ),
    _scheme(
        "bank-account",
        "bank account, account number, account no, kontonummer, routing number, sort code",
        r"\d{8,17}|\d{2}-\d{2}-\d{2}",
    ),
    _scheme(
        "health-number",
        "medicare, nhs, health card, health insurance, versichertennummer",
        r"\d{3} ?\d{3} ?\d{4}|\d{4} ?\d{5} ?\d|[A-Z]\d{9}",
    ),
)


_FIRST_WORDS = frozenset(word for scheme in _SCHEMES for word in scheme.first_words)


def identity_findings(reading: Reading) -> Iterator[Finding]:
    """Yield the numbers in a text that identify a person, an account or a card."""
    for start, _ in reading.numbers:
        yield from _number_at(reading.text, start)
    if len(reading.text) <= _LONE and _LONE_NUMBER.match(reading.text):
        start = len(reading.text) - len(reading.text.lstrip())
        yield Finding(start, len(reading.text.rstrip()), "personal", "number")
    if not _FIRST_WORDS.isdisjoint(reading.words) and _ENOUGH_DIGITS.search(reading.text):
        for scheme in _SCHEMES:
            if not scheme.first_words.isdisjoint(reading.words) and _may_announce(reading, scheme):
                yield from _announced(reading, scheme)


def _number_at(text: str, start: int) -> Iterator[Finding]:
    for judge in (_iban_at, _card_at, _notation_at):
        finding = judge(text, start)
        if finding:
            yield finding
            return


def _iban_at(text: str, start: int) -> Finding | None:
    for match in _IBAN.finditer(text, max(0, start - 12), start + 40):
        if match.start() <= start < match.end() and iban.is_valid(match.group()):
            return Finding(*match.span(), "personal", "iban")
    return None


def _card_at(text: str, start: int) -> Finding | None:
    match = _CARD.match(text, start)
    digits = re.sub(r"\D", "", match.group()) if match else ""
    if match is None or not luhn.is_valid(digits) or len(set(digits)) == 1:
        return None
    by_form = _CARD_PREFIX.match(digits) and _is_grouped(match.group())
    if by_form or _CARD_WORD.search(text[max(0, start - _REACH) : start]):
        return Finding(*match.span(), "personal", "card-number")
    return None


def _notation_at(text: str, start: int) -> Finding | None:
    match = _SSN.match(text, start)
    if match and (match.group("sep") == "-" or len(text) <= _LONE or _near(text, *match.span())):
        return Finding(*match.span(), "personal", "social-security")
    match = _ITIN.match(text, start)
    return Finding(*match.span(), "personal", "tax-number") if match else None


def _is_grouped(number: str) -> bool:
    """Whether the digits stand in one run or in the groups printed on cards; counters in tables stand otherwise."""
    return (
        number.isdigit()
        or re.fullmatch(r"\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5}", number) is not None
    )


def _near(text: str, start: int, end: int) -> bool:
    return (
        re.search(r"\b(?:ssn|social security)\b", text[max(0, start - _REACH) : end + _REACH], re.IGNORECASE)
        is not None
    )


def _may_announce(reading: Reading, scheme: _Scheme) -> bool:
    """Whether a phrase of the scheme stands in the text; its first word is looked for where that costs least."""
    return any(
        (first in reading.spelled or not first.isascii()) and phrase in reading.low
        for first, phrase in scheme.alternatives
    )


def _announced(reading: Reading, scheme: _Scheme) -> Iterator[Finding]:
    for word in scheme.phrases.finditer(reading.low):
        for number in scheme.notation.finditer(reading.text, max(0, word.start() - _REACH), word.end() + _REACH):
            if any(c.isdigit() for c in number.group()):
                yield Finding(*number.span(), "personal", scheme.kind)
