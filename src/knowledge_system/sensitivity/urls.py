"""Credentials in places that give them away: URLs, HTTP headers, and the arguments of well-known commands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from knowledge_system.domain.sensitivity import Finding
from knowledge_system.sensitivity.reading import Reading, matches_at, words_of
from knowledge_system.sensitivity.shapes import entropy, is_example, is_filler, looks_random, word_likeness

if TYPE_CHECKING:
    from collections.abc import Iterator

_AUTHORITY = re.compile(r"[^\s/?#'\"<>\\`|,)(]{0,300}")
_RAW_PASSWORD = re.compile(r"([A-Za-z0-9._-]{1,60}):([^\s@'\"<>`:]{3,100})@[A-Za-z0-9\[][\w.-]{2,}")
_PORT = re.compile(r"\d{1,5}(?:/|\Z)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,30}\Z")
_HEADER = re.compile(
    r"(?i:\b(basic|bearer|token|negotiate|ntlm|apikey|digest|oauth|splunk|genie-?key)[ \t]{1,4}|\b(?:bearer|basic)%20)"
    r"([A-Za-z0-9+/_.~%=-]{8,4000})"
)
_CURL_USER = re.compile(
    r"(?:\s-u[ \t]{0,4}|\s--(?:proxy-)?user[ \t=]{1,4})(?:\\?[\"'])?([^\s:\"'\\$]{1,80}):([^\s\"'\\]{1,200})"
)
_SHORT_FLAG = re.compile(
    r"\b(?:(?:mysql\w{0,12}|mariadb\w{0,12}|mongo\w{0,12})\b[^\n|;&]{0,200}?\s-p|sshpass\s{1,3}-p\s?"
    r"|(?:docker|podman|helm|oc|nerdctl|az)\b[^\n|;&]{0,80}?\blogin\b[^\n|;&]{0,200}?\s-p[ \t]{1,3}"
    r"|redis-cli\b[^\n|;&]{0,120}?\s-a[ \t]{1,3}"
    r"|ldap(?:search|add|modify|delete|passwd|whoami)\b[^\n|;&]{0,200}?\s-w[ \t]{1,3}"
    r"|smbclient\b[^\n|;&]{0,200}?%|net\s{1,3}user\s{1,3}\S{1,40}[ \t]{1,3}(?!/))"
    r"(?:\\?[\"'])?([^\s\"'\\|;&]{4,100})"
)
_COMMANDS = words_of(
    "mysql mysqladmin mysqldump mysqlimport mariadb mongo mongosh mongodump mongorestore sshpass docker "
    "podman helm oc nerdctl az redis ldapsearch ldapadd ldapmodify ldapdelete ldappasswd ldapwhoami "
    "smbclient net"
)
_COMMAND_STARTS = (
    "mysql", "mariadb", "mongo", "sshpass", "docker", "podman", "helm", "oc", "nerdctl", "az", "redis-cli", "ldap",
    "smbclient", "net",
)  # fmt: skip
_CLIENTS = words_of("curl wget http https httpie xh")
_SCHEME_WORDS = ("basic", "bearer", "token", "negotiate", "ntlm", "apikey", "digest", "oauth", "splunk", "genie")
_SCHEMES = words_of(*_SCHEME_WORDS, "geniekey")
_SHORTEST_BASIC = 8
_LEAST_ENTROPY = 2.2
_SECURE_STRING = re.compile(r"(?i:convertto-securestring)\s{1,3}(?:-(?i:string)\s{1,3})?[\"']([^\"'\n]{3,200})[\"']")
_USER_PREFIX = re.compile(r"(?:https?|git|ssh)\Z")


def url_findings(text: str) -> Iterator[Finding]:
    """Yield the password of every `scheme://user:password@host`; a lone token before the `@` counts as one."""
    at = text.find("://")
    while at != -1:
        yield from _userinfo(text, at)
        at = text.find("://", at + 3)


def _userinfo(text: str, at: int) -> Iterator[Finding]:
    start = at + 3
    authority = _AUTHORITY.match(text, start)
    if authority is None or not _SCHEME.search(text, max(0, at - 31), at):
        return
    head = authority.group()
    userinfo, sign, host = head.rpartition("@")
    if sign and host:
        user, colon, password = userinfo.partition(":")
        span = (start + len(user) + 1, start + len(userinfo)) if colon else (start, start + len(userinfo))
        value = password if colon else userinfo
        if value and not is_example(value) and (colon or looks_random(value, 16)):
            yield Finding(*span, "secret", "password" if colon else "token")
    elif (
        not sign
        and (raw := _RAW_PASSWORD.match(text, start))
        and not _PORT.match(raw.group(2))
        and not is_example(raw.group(2))
    ):
        yield Finding(*raw.span(2), "secret", "password")


def header_findings(reading: Reading) -> Iterator[Finding]:
    """Yield the credentials of HTTP `Authorization` schemes, wherever the scheme's word stands before one."""
    if _SCHEMES.isdisjoint(reading.words):
        return
    for match in matches_at(_HEADER, reading.text, reading.places(_SCHEME_WORDS)):
        start = match.start(2)
        value = match.group(2).rstrip(".")
        if _is_credential((match.group(1) or "bearer").lower(), value, reading.low[max(0, start - 60) : start]):
            yield Finding(start, start + len(value), "secret", "authorization")


def _is_credential(scheme: str, value: str, before: str) -> bool:
    if is_filler(value) or is_example(value):
        return False
    announced = "authorization" in before or "-auth" in before
    if scheme == "basic":
        mixed = value != value.lower() and value[1:] != value[1:].lower() and "_" not in value
        return (
            mixed
            and len(value) >= _SHORTEST_BASIC
            and (len(value) % 4 == 0 or value.endswith("="))
            and _unlike_words(value, announced=announced)
        )
    if scheme in {"bearer", "ntlm", "negotiate"}:
        return looks_random(value, 16)
    return announced and looks_random(value, 12)


def _unlike_words(value: str, *, announced: bool) -> bool:
    return value.endswith("=") or any(c.isdigit() for c in value) or word_likeness(value) < (5.6 if announced else 4.6)


def command_findings(reading: Reading) -> Iterator[Finding]:
    """Yield the passwords given by short options: `curl -u user:password`, `mysql -ppassword`, `sshpass -p …`."""
    text, words = reading.text, reading.words
    if "-u" in text and not _CLIENTS.isdisjoint(words):
        for match in _CURL_USER.finditer(text):
            value = match.group(2)
            if not (value.isdigit() and match.group(1).isdigit()) and not is_example(value):
                yield Finding(*match.span(2), "secret", "password")
    if not _COMMANDS.isdisjoint(words):
        for match in matches_at(_SHORT_FLAG, text, reading.places(_COMMAND_STARTS)):
            if _is_argument(match.group(1)):
                yield Finding(*match.span(1), "secret", "password")
    if b"securestring" in words:
        for match in _SECURE_STRING.finditer(text):
            if not is_example(match.group(1)):
                yield Finding(*match.span(1), "secret", "password")


def _is_argument(value: str) -> bool:
    """Whether the word after `-p` is a password and not a port mapping, another option or a path."""
    if (
        value.startswith(("-", "$", "<", "/", "%", "@"))
        or is_example(value)
        or re.fullmatch(r"(?:[\d.]+:)*\d+(?:/\w+)?", value)
    ):
        return False
    return entropy(value) >= _LEAST_ENTROPY and not value.isalpha()
