"""Whether a value behind a credential's name is that credential."""

from __future__ import annotations

import re

from knowledge_system.sensitivity.reading import word_set
from knowledge_system.sensitivity.shapes import (
    WORD_LIKENESS,
    entropy,
    is_example,
    is_filler,
    is_hashed,
    is_hex,
    is_sequence,
    is_uuid,
    looks_random,
    word_likeness,
)

_SHORTEST, _LONGEST = 4, 512
_LEAST_ENTROPY = 2.2
_SOME_KINDS, _MANY_KINDS = 5, 7
STRANGE_WORD = 3.6
"""Letters alone pass for a strong password below this mean letter-pair score (words: 5, random letters: 3)."""

_LITERALS = word_set(
    "true false none null nil undefined string str text boolean bool int integer number float object "
    "any unknown void bytes char varchar optional "
    "required invalid valid enabled disabled yes no on off auto default empty set unset missing wrong "
    "incorrect type name value values key keys "
    "hidden input email user username basic bearer oauth jwt token tokens secret_name this self props "
    "state data params args kwargs config env "
    "todo tbd n/a ok error failed success test.password bypass never always ask prompt stdin file body "
    "header query cookie local session asc desc "
    "usestate list dict tuple union sequence mapping callable self.password record array map buffer "
    "date regexp promise const let var function "
    "return await async new if else for in of and or is not"
)
_WORD_FOR_PASSWORD = re.compile(
    r"pass(?:word|wd|wort|phrase|code)?|pwd|secret|token|apikey|api[_-]key|credential|heslo|parol"
    r"|contrase|senha|l\u00f6senord|wachtwoord|salas|sifre",
    re.IGNORECASE,
)
_MESSAGE = re.compile(
    r"pass|pwd|secret|token|key|credential|\b(?:please|enter|must|required?|invalid|is|are|the|your|you"
    r"|not|cannot|should|at least|characters?|field|login|user|for)\b|[{<%$]",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*(?:(?:\.|->|::|\?\.)[A-Za-z_$][\w$]*)*[!?]?\Z")
_COMPOUND = re.compile(r"[A-Za-z0-9]+(?:[_.-][A-Za-z0-9]+)+\Z")
_PATH = re.compile(r"(?:\.{0,2}/|~/|[A-Za-z]:\\|\w+://)|[\w.-]+/[\w./-]+\.\w{1,5}\Z")
_CALL = re.compile(r"[A-Za-z_$][\w$.:>?!\[\]-]*[(\[{<]|[({\[]|[^\w\s]?\w+\)|\\[nrtu]|[!&|+*/?=<>]=?\Z|\.\.\.|=>")
_TITLE_WORD = re.compile(r"[A-Z][a-z\u00e0-\u017f]+[.!?]?\Z")
_CMDLET = re.compile(r"[A-Z][A-Za-z]+-[A-Z]\w+\Z")
_PUNCTUATION = re.compile(r"[^\w\s]")
_RUN = re.compile(r"[A-Za-z0-9+/_=-]{10,}")


def is_password(value: str, *, bare: bool = False, prose: bool = False, caption: bool = False) -> bool:
    """Whether `value` behind a password's name is a password.

    `bare`: it stands without quotes, so it may be an expression. `prose`: nothing but the name announces it (`the
    password is …`, `password = word`), so it must look strong.
    `caption`: it may be a text of the user interface (`"password": "Passwort"`), so a capitalised word is none.
    """
    if not _SHORTEST <= len(value) <= _LONGEST or any(c.isspace() for c in value):
        return False
    if (bare and not prose and _is_expression(value)) or _stands_for_another(value):
        return False
    if prose:
        return _is_strong(value)
    return not (_names_something(value) or (caption and _TITLE_WORD.match(value)))


def is_passphrase(value: str) -> bool:
    """Whether several words in quotes, assigned to a password's name, are a passphrase and not a message about one."""
    words = value.split()
    return len(words) > 1 and not (
        _MESSAGE.search(value) or _stands_for_another(value) or value[0].isupper() or value[-1] in ".:?"
    )


def is_token(value: str, least: int, *, bare: bool = False, digests: bool = True) -> bool:
    """Whether `value` behind a token's or key's name is one: random, a UUID, a digest-sized number, or punctuation."""
    if len(value) < least or (bare and _is_expression(value)) or any(c.isspace() for c in value):
        return False
    if _stands_for_another(value) or (_PATH.match(value) and not (value[0] == "/" and looks_random(value, 32))):
        return False
    if is_uuid(value) or is_hex(value):
        return digests and entropy(value) > _LEAST_ENTROPY
    if _IDENTIFIER.match(value) and _is_name(value, bare=bare):
        return False
    runs = _RUN.findall(value[:_LONGEST])
    return looks_random(value, least) or _is_garbled(value) or any(looks_random(run, 16) for run in runs)


def _is_name(identifier: str, *, bare: bool) -> bool:
    """Whether an identifier is a name in code: words without digits, or an attribute of something."""
    if word_likeness(identifier) >= WORD_LIKENESS and not any(c.isdigit() for c in identifier):
        return True
    return bare and "." in identifier and not any(looks_random(part, 16) for part in identifier.split("."))


def _stands_for_another(value: str) -> bool:
    return is_example(value) or is_hashed(value) or is_sequence(value) or value.lower() in _LITERALS


def _is_expression(value: str) -> bool:
    """Whether a bare value is code: a call, a literal in brackets, an operator."""
    return _CALL.match(value) is not None and (value[0] in "({[<" or not _is_garbled(value))


def _is_strong(value: str) -> bool:
    """Whether a word is hardly a word: letters with digits inside, punctuation and digits, or random letters."""
    has_digit = any(c.isdigit() for c in value)
    has_letter = any(c.isalpha() for c in value)
    if _IDENTIFIER.match(value) or _COMPOUND.match(value):
        if "." in value or _WORD_FOR_PASSWORD.search(value) or not looks_random(value, 6 if has_digit else 10):
            return False
        return (has_digit and has_letter) or word_likeness(value) < STRANGE_WORD
    if _PUNCTUATION.match(value) and looks_random(value, 12):
        return True
    mixed = has_digit and has_letter and len(value) > _SHORTEST + 1
    return (mixed and not _CALL.search(value) and not _PATH.match(value)) or _is_garbled(value)


def _is_garbled(value: str) -> bool:
    """Whether a value is full of punctuation as no expression is: many kinds of it, brackets that do not match."""
    marks = _PUNCTUATION.findall(value)
    kinds = len(set(marks))
    unmatched = any(value.count(a) != value.count(b) for a, b in ("()", "[]", "{}", "<>"))
    return len(value) > _MANY_KINDS and (kinds >= _MANY_KINDS or (kinds >= _SOME_KINDS and unmatched))


def _names_something(value: str) -> bool:
    """Whether a value is the name of a thing: `new_password`, `session.redis.password`, a path, a label."""
    if _PATH.match(value) or is_filler(value) or _CMDLET.match(value):
        return True
    if not value.isascii() and not any(c.isdigit() for c in value) and _letters_only(value):
        return True
    if re.fullmatch(r"[A-Za-z_]+(?:\.[A-Za-z_]+)+", value):
        return word_likeness(value) >= WORD_LIKENESS
    compound = _COMPOUND.match(value) is not None or re.search(r"[a-z][A-Z]", value) is not None
    return compound and _WORD_FOR_PASSWORD.search(value) is not None


def _letters_only(value: str) -> bool:
    return all(c.isalpha() or c in ".,:;!?'-" for c in value)
