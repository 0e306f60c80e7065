"""What a value looks like: an example, a hash, a piece of code, a word, or something drawn at random.

All functions are pure, linear in the length of the value, and judge the value alone; which key it stood behind is the
business of `assignments`.

Letter-pair frequencies (`letter_pairs.txt`): row = first letter, column = second, each digit is
``9 + log2 P(second | first)`` rounded and clipped to 0-9, counted over the distinct words in the sources of the Python
3.11 standard library with add-half smoothing. On random lower-case strings of 12 letters 98 % score below
`WORD_LIKENESS`, on concatenated words 4 %.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from importlib import resources
from itertools import pairwise

WORD_LIKENESS = 4.2
# Thresholds set on the labelled development items, checked by halves of their repositories.
_SHORT = 8
_SHORTEST_FILLER = 3
_FILLER_SHARE, _FILLER_SHARE_SHORT = 0.6, 0.7
_SOME_DIGITS, _MANY_DIGITS, _LONG_NUMBER = 3, 5, 20
_FEWEST_PIECES = 4
_NUMBER_ENTROPY, _MIXED_ENTROPY = 2.5, 3.5

_PAIRS = tuple(
    tuple(int(digit) for digit in row)
    for row in resources.files(__package__).joinpath("letter_pairs.txt").read_text(encoding="ascii").split()
)

_PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_DIGITS_INSIDE = re.compile(r"[A-Za-z]\d+[A-Za-z]")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z")
_HEX = re.compile(r"[0-9a-fA-F]+\Z")
_OWN_PLACEHOLDER = re.compile(r"\[(?:secret|personal):[a-z0-9-]{1,40}#\d{1,9}\]")
_TEMPLATE = re.compile(
    r"\A\$\{|\A\$\(|\A\{\{|\$\{[\w.:?/@!#,*^ -]{1,80}\}|\$\{[\w.]{1,60}\([^{}]{0,60}\)\}"
    r"|\$\([^()\n]{1,80}\)|\{\{[^{}]{0,80}\}\}|\{%|<%|%\(\w|%[sdvq]\b|#{4}|\*{4}|[xX]{7}"
    r"|\A[$%@&][A-Za-z_]\w*[%\]]?\Z|\A<[^<>]{1,60}>?\Z|\A\{[\w .:-]{0,60}\}\Z|\A\[[^\[\]]{1,60}\]\Z"
    r"|process\.env|os\.environ|getenv|import\.meta|\bsecrets\.[A-Z_]|&lt;|\.\.\.|\[\.\.|\u2026|\A__\w+__\Z"
)
_EXAMPLE_WORD = re.compile(
    r"your|change[-_]?(?:me|this|it)|placeholder|redacted|removed|replace|insert|dummy|sample|censored|hidden|masked"
    r"|example|value[-_]?here|goes[-_]?here|enter[-_ ]|todo|not[-_]?(?:set|real|needed|used)"
    r"|my[-_](?:secret|token|api|key|pass)",
    re.IGNORECASE,
)
_HASHED = re.compile(
    r"(?:\{[A-Z0-9-]{3,12}\})?\$(?:\d[a-z]?|argon2\w{0,2}|pbkdf2\S{0,20}|scrypt|bcrypt)\$"
    r"|\{S?SHA\d{0,3}\}|(?:sha(?:1|256|384|512)|md5)[-:]"
)
_SEQUENCES = ("0123456789", "1234567890", "abcdefghij", "qwertyuiop", "123456781234", "deadbeefdeadbeef")


def is_own_placeholder(value: str) -> bool:
    """Whether `value` contains a placeholder this package wrote."""
    return _OWN_PLACEHOLDER.search(value) is not None


def is_filler(value: str) -> bool:
    """Whether `value` is made of one or two repeated characters, like `xxxx`, `****`, `0000-0000`."""
    core = value.strip("-_. #")
    if not core:
        return True
    counts = Counter(core.lower())
    most = counts.most_common(1)[0][1]
    share = most / len(core)
    if len(core) < _SHORT:
        return len(core) >= _SHORTEST_FILLER and share >= _FILLER_SHARE_SHORT
    return share >= _FILLER_SHARE or len(counts) <= len("ab")


def is_example(value: str) -> bool:
    """Whether `value` stands for a value: templates, `your-api-key`, `xxxx`, `${VAR}`, `<token>`."""
    head = value[:256]
    return bool(_TEMPLATE.search(head) or _EXAMPLE_WORD.search(head)) or is_filler(head) or is_own_placeholder(head)


def is_sequence(value: str) -> bool:
    """Whether `value` is mainly a keyboard or counting sequence, or a token cut short to show its form."""
    low = value.lower()
    return any(sequence in low and len(value) <= 2 * len(sequence) for sequence in _SEQUENCES)


def is_hashed(value: str) -> bool:
    """Whether `value` is a password hash or an integrity digest that names its algorithm."""
    return _HASHED.match(value) is not None


def is_uuid(value: str) -> bool:
    """Whether `value` is a UUID in the usual notation."""
    return _UUID.match(value) is not None


def is_hex(value: str) -> bool:
    """Whether `value` consists of hexadecimal digits only."""
    return _HEX.match(value) is not None


def entropy(value: str) -> float:
    """Return the Shannon entropy of the characters of `value`, in bits a character."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values()) if total else 0.0


def word_likeness(letters: str) -> float:
    """Return the mean letter-pair score (0-9) of the ASCII letters in `letters`; 9 for fewer than two."""
    codes = [ord(c) - 97 for c in letters.lower() if "a" <= c.lower() <= "z"]
    pairs = len(codes) - 1
    return sum(_PAIRS[a][b] for a, b in pairwise(codes)) / pairs if pairs > 0 else 9.0


def looks_random(value: str, minimum: int = 10) -> bool:
    """Whether `value`, of at least `minimum` characters, looks drawn at random rather than composed of words.

    Mixed values are cut where the class of character changes: random text changes class every one to three characters,
    words do not. Values of letters alone are judged by letter pairs.
    """
    if len(value) < minimum or is_filler(value) or is_sequence(value):
        return False
    pieces = _PIECE.findall(value[:256])
    letters = sum(len(piece) for piece in pieces if not piece.isdigit())
    digits = sum(len(piece) for piece in pieces if piece.isdigit())
    if not letters:
        return digits >= _LONG_NUMBER and entropy(value) > _NUMBER_ENTROPY
    if _is_shredded(value, len(pieces), letters, digits):
        return True
    strange = sum(len(piece) for piece in pieces if not piece.isdigit() and _is_strange(piece))
    if digits >= _SOME_DIGITS and _DIGITS_INSIDE.search(value):
        return strange >= letters * 0.3
    return strange >= max(6, letters * 0.6) or (digits >= _MANY_DIGITS and strange >= letters * 0.5)


def _is_shredded(value: str, pieces: int, letters: int, digits: int) -> bool:
    """Whether the class of character changes as often as in random text."""
    if pieces < _FEWEST_PIECES or not (digits or entropy(value) > _MIXED_ENTROPY):
        return False
    return (letters + digits) / pieces <= (3.3 if digits > _SOME_DIGITS and pieces > _FEWEST_PIECES else 2.8)


def _is_strange(piece: str) -> bool:
    return len(piece) <= len("ab") or word_likeness(piece) < WORD_LIKENESS + (0.4 if len(piece) < _SHORT else 0)
