"""Canaries: thousands of made-up secrets, personal data and confidential sentences, the same ones in every run.

Each has the published shape of its kind, with a valid checksum where there is one. None is real, and none stands in
this file: they are drawn from a fixed seed. `«…»` in a template marks the part that must never be seen outside, `{A20}`
draws 20 characters: A letters and digits, a letters, U capitals and digits, l small letters and digits, D digits,
h hexadecimal, B base64, W base64 for URLs, S base32.
"""

from __future__ import annotations

import base64
import functools
import ipaddress
import json
import random
import re
import string
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from knowledge_system.domain.sensitivity import Sensitivity

SEED = "canaries 1"
EACH = 32
"""Canaries of each template."""
ALPHABETS = {
    "A": string.ascii_letters + string.digits,
    "a": string.ascii_letters,
    "U": string.ascii_uppercase + string.digits,
    "l": string.ascii_lowercase + string.digits,
    "D": string.digits,
    "h": "0123456789abcdef",
    "B": string.ascii_letters + string.digits + "+/",
    "W": string.ascii_letters + string.digits + "-_",
    "S": string.ascii_uppercase + "234567",
}


@dataclass(frozen=True, slots=True)
class Canary:
    """`needle` must never be seen outside; `text` carries it as somebody would write it; `level` is the text's own."""

    kind: str
    needle: str
    text: str
    level: Sensitivity = Sensitivity.CONFIDENTIAL


VENDORS = {
    "aws-key": ("«AKIA{U16}»", "«ASIA{U16}»", "«amzn.mws.{h8}-{h4}-{h4}-{h4}-{h12}»"),
    "google-key": ("«AIza{W35}»",),
    "google-token": ("«ya29.{W60}»",),
    "google-secret": ("«GOCSPX-{W28}»",),
    "google-client": ("«{D12}-{l32}.apps.googleusercontent.com»",),
    "azure-key": ("«{A3}8Q~{A34}»", "AccountKey=«{B86}==»"),
    "alibaba-key": ("«LTAI{A20}»",),
    "digitalocean-token": ("«dop_v1_{h64}»",),
    "heroku-key": ("«HRKU-{h8}-{h4}-{h4}-{h4}-{h12}»",),
    "akamai-token": ("«akab-{l16}-{l16}»",),
    "yandex-token": ("«t1.{A43}.{A86}»",),
    "github-token": ("«ghp_{A36}»", "«github_pat_{A22}_{A59}»"),
    "gitlab-token": ("«glpat-{A20}»", "«glrt-{A20}»"),
    "atlassian-token": ("«ATATT3x{A180}»",),
    "npm-token": ("«npm_{A36}»",),
    "pypi-token": ("«pypi-AgEIcHlwaS5vcmc{A80}»",),
    "package-token": ("«rubygems_{h48}»",),
    "docker-token": ("«dckr_pat_{A27}»",),
    "jfrog-key": ("«cmVmdGtu{A56}»",),
    "model-key": ("«sk-ant-api03-{A93}»", "«sk-proj-{A74}»", "«gsk_{A52}»", "«hf_{a34}»"),
    "slack-token": ("«xoxb-{D12}-{D13}-{A24}»",),
    "webhook": (
        "https://hooks.slack.com/services/«T{U8}/B{U8}/{A24}»",
        "https://discord.com/api/webhooks/«{D18}/{A68}»",
    ),
    "discord-token": ("«M{A23}.{A6}.{A38}»",),
    "telegram-token": ("«{D9}:AA{A33}»",),
    "sendgrid-key": ("«SG.{A22}.{A43}»",),
    "mailgun-key": ("«key-{h32}»",),
    "mailchimp-key": ("«{h32}-us7»",),
    "twilio-key": ("«SK{h32}»",),
    "stripe-key": ("«sk_live_{A24}»", "«whsec_{A32}»"),
    "square-token": ("«sq0atp-{A22}»",),
    "paypal-token": ("«access_token$production${l16}${h32}»",),
    "shopify-token": ("«shpat_{h32}»",),
    "plaid-token": ("«access-production-{h8}-{h4}-{h4}-{h4}-{h12}»",),
    "vault-token": ("«hvs.{A90}»",),
    "terraform-token": ("«{A14}.atlasv1.{A60}»",),
    "infrastructure-token": ("«dapi{h32}»", "«pul-{h40}»"),
    "database-token": ("«pscale_tkn_{A43}»",),
    "monitoring-token": ("«glsa_{A32}_{h8}»",),
    "grafana-key": ("«eyJrIjoi{A80}»",),
    "newrelic-key": ("«NRAK-{U27}»",),
    "workspace-token": ("«lin_api_{A40}»",),
    "beamer-token": ("«b_{A44}»",),
    "openshift-token": ("«sha256~{A43}»",),
    "octopus-key": ("«API-{U26}»",),
    "adobe-secret": ("«p8e-{A32}»",),
    "mapbox-token": ("«pk.{A60}.{A22}»",),
    "dropbox-token": ("«{A11}AAAAAAAAAA{A43}»",),
    "twitter-token": ("«AAAAAAAAAAAAAAAAAAAAAA{A80}»",),
    "jwt": ("«eyJ{A33}.eyJ{A60}.{A43}»",),
    "nkey-seed": ("«SU{S56}»",),
    "age-key": ("«AGE-SECRET-KEY-1{U58}»",),
    "otp-secret": ("otpauth://totp/Shop:admin?secret=«{S32}»&issuer=Shop",),
    "signed-url": ("https://files.acme-corp.io/report.pdf?X-Amz-Signature=«{h64}»",),
}
"""Credentials that are known by their own form: they are found whatever stands around them."""

ASSIGNED = {
    "password": (
        "DB_PASSWORD=«{A7}{D2}{A5}»",
        'password: "«{A6}{D2}{A6}»"',
        "postgres://app:«{A8}{D2}{A6}»@db.acme-corp.io:5432/shop",
        "curl -u admin:«{A7}{D2}{A6}» https://intranet.acme-corp.io/api",
        "sshpass -p «{A7}{D2}{A6}» ssh deploy@build",
        "the password is «{A7}{D2}{A6}»",
    ),
    "api-key": ('api_key = "«{A32}»"', "X-Api-Key: «{A36}»"),
    "token": ("auth_token: «{h40}»", 'client_secret="«{A40}»"'),
    "authorization": ("Authorization: Bearer «{A44}»",),
}
"""Credentials that are known by what they are assigned to."""

PERSONAL = {
    "number-plate": ("license plate «M-{U2} {D4}»".replace("{U2}", "QX"),),
    "passport": ("passport number «C{D8}»",),
    "tax-number": ("tax number «{D2}/{D3}/{D5}»",),
    "national-id": ("personnummer «{D6}-{D4}»",),
    "company-number": ("Handelsregister «HRB {D6}»",),
    "driving-licence": ("driver's license «D{D9}»",),
    "bank-account": ("account number «{D12}»",),
    "health-number": ("NHS number «{D3} {D3} {D4}»",),
    "phone": ("phone: «+49 30 {D8}»", "call me at «+1 415-{D3}-{D4}»".replace("{D3}-", "7{D2}-")),
}
"""Numbers that a word announces; those with a checksum are made by functions below."""

SENTENCES = (
    "please use {} for the staging environment",
    "I found {} in the old deployment notes.\nWhat shall we do with it?",
    "{}",
    "it still fails with 401 after I changed it to {} yesterday",
    "```\n{}\n```\nWhy does this not work?",
    "- item one\n- {}\n- item three",
)
FIRST = (
    "Jane",
    "Omar",
    "Lucia",
    "Pavel",
    "Ingrid",
    "Kofi",
    "Mei",
    "Tomas",
    "Aisha",
    "Noah",
    "Freya",
    "Hugo",
    "Zara",
    "Ivan",
    "Leila",
    "Nils",
)
LAST = (
    "Haddad",
    "Okafor",
    "Lindqvist",
    "Moreau",
    "Petrov",
    "Tanaka",
    "Silva",
    "Novak",
    "Brandt",
    "Castillo",
    "Eriksen",
    "Farouk",
    "Gallo",
    "Hansen",
)
STREETS = (
    "Ashgrove",
    "Larkspur",
    "Fernhill",
    "Copperfield",
    "Marlowe",
    "Quarry",
    "Thornbury",
    "Wexford",
    "Juniper",
    "Saltmarsh",
)
DOMAINS = ("gmail.com", "outlook.com", "web.de", "proton.me", "acme-corp.io")


def drawn(template: str, source: random.Random) -> tuple[str, str]:
    """Return a template filled in, and the part between the marks."""
    filled = re.sub(r"\{(\w)(\d+)\}", lambda part: _run(part[1], int(part[2]), source), template)
    return filled.replace("«", "").replace("»", ""), filled[filled.index("«") + 1 : filled.index("»")]


def _run(name: str, length: int, source: random.Random) -> str:
    """Return random characters; a longer run has a letter and a digit where its alphabet has them."""
    alphabet = ALPHABETS[name]
    run = [source.choice(alphabet) for _ in range(length)]
    if length > len("ab") and not alphabet.isdigit() and not alphabet.isalpha():
        run[1] = source.choice([one for one in alphabet if one.isdigit()])
        run[-2] = source.choice([one for one in alphabet if one.isalpha()])
    if name == "D" and length > 1 and run[0] == "0":
        run[0] = source.choice("123456789")
    return "".join(run)


def luhn(digits: str) -> str:
    """Return `digits` with the check digit that makes them a card number."""
    doubled = [int(one) * (2 - place % 2) for place, one in enumerate(reversed(digits))]
    return digits + str(-sum(value - 9 * (value > len("123456789")) for value in doubled) % 10)


def card(source: random.Random) -> tuple[str, str]:
    number = luhn("4" + _run("D", 14, source))
    return f"card: {number}", number


def iban(source: random.Random) -> tuple[str, str]:
    account = _run("D", 18, source)
    check = 98 - int(account + "131400") % 97  # D and E are 13 and 14
    return f"IBAN DE{check:02d}{account}", f"DE{check:02d}{account}"


def social_security(source: random.Random) -> tuple[str, str]:
    number = f"{source.randint(100, 665)}-{source.randint(10, 99)}-{source.randint(1000, 9999)}"
    return f"his SSN is {number}", number


def email(source: random.Random) -> tuple[str, str]:
    address = f"{source.choice(FIRST)}.{source.choice(LAST)}{source.randint(10, 999)}@{source.choice(DOMAINS)}".lower()
    return f"write to {address} about it", address


def address(source: random.Random) -> tuple[str, str]:
    place = f"{source.randint(1000, 9999)} {source.choice(STREETS)} {source.choice(('Street', 'Avenue', 'Lane'))}"
    return f"she lives at {place}", place


def public_address(source: random.Random) -> tuple[str, str]:
    while True:
        found = ipaddress.ip_address(source.randint(0x0C000000, 0xDF000000))
        if found.is_global and max(found.packed) > len("0123456789"):
            return f"the request came from {found} twice", str(found)


def basic(source: random.Random) -> tuple[str, str]:
    pair = f"deploy:{_run('A', 14, source)}"
    value = base64.b64encode(pair.encode()).decode()
    return f"Authorization: Basic {value}", value


MADE: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "card-number": card,
    "iban": iban,
    "social-security": social_security,
    "email": email,
    "address": address,
    "ip-address": public_address,
    "authorization": basic,
}


def armoured(source: random.Random) -> tuple[str, str]:
    kind = source.choice(("RSA ", "EC ", "OPENSSH ", "", "ENCRYPTED "))
    lines = [_run("B", 64, source) for _ in range(source.randint(3, 12))]
    text = "\n".join([f"-----BEGIN {kind}PRIVATE KEY-----", *lines, f"-----END {kind}PRIVATE KEY-----"])
    return text, source.choice(lines)


def pgp(source: random.Random) -> tuple[str, str]:
    lines = [_run("B", 64, source) for _ in range(5)]
    block = "PGP PRIVATE KEY BLOCK"
    return "\n".join([f"-----BEGIN {block}-----", "", *lines, f"-----END {block}-----"]), source.choice(lines)


def web_key(source: random.Random) -> tuple[str, str]:
    secret = _run("W", 43, source)
    return json.dumps({"kty": "EC", "crv": "P-256", "x": _run("W", 43, source), "d": secret}), secret


def putty(source: random.Random) -> tuple[str, str]:
    lines = [_run("B", 64, source) for _ in range(4)]
    return "\n".join(["PuTTY-User-Key-File-2: ssh-rsa", "Private-Lines: 4", *lines, ""]), source.choice(lines)


KEYS = (armoured, pgp, web_key, putty)


def credentials() -> list[Canary]:
    """Return the credentials, personal data and private keys."""
    source = random.Random(SEED)
    made: list[Canary] = []
    for kinds in (VENDORS, ASSIGNED, PERSONAL):
        for kind, templates in kinds.items():
            for template in templates:
                made += [_carried(kind, *drawn(template, source), source) for _ in range(EACH)]
    for kind, make in MADE.items():
        made += [_carried(kind, *make(source), source) for _ in range(EACH)]
    for make in KEYS:
        for _ in range(EACH):
            text, needle = make(source)
            made.append(Canary("private-key", needle, text, Sensitivity.SECRET))
    return list({one.needle: one for one in made}.values())


def _carried(kind: str, text: str, needle: str, source: random.Random) -> Canary:
    sentence = "{}" if "\n" in text else source.choice(SENTENCES)
    return Canary(kind, needle, sentence.format(text))


TOPICS = {
    "topics": [
        {"name": "falcon", "level": "confidential", "keywords": ["falcon merger"]},
        {"name": "employees", "level": "confidential", "patterns": ["EMP-[0-9]{6}"]},
        {"name": "lighthouse", "level": "secret", "keywords": ["lighthouse protocol"]},
        {
            "name": "whistle",
            "level": "confidential",
            "description": "Somebody reports misconduct of a superior in confidence.",
            "examples": ["She reported in confidence that the plant manager takes bribes from a supplier."],
        },
    ]
}
"""`sensitivity-topics.json` of the tests: words, a pattern, and a topic that only its meaning gives away."""

SAID = (
    ("falcon", "the falcon merger is signed at dock {mark} on Friday", Sensitivity.CONFIDENTIAL),
    ("employees", "the review of EMP-{mark} is on my desk", Sensitivity.CONFIDENTIAL),
    ("lighthouse", "the lighthouse protocol begins in room {mark}", Sensitivity.SECRET),
    (
        "whistle",
        "She reported in confidence that the plant manager of hall {mark} takes bribes from a supplier.",
        Sensitivity.CONFIDENTIAL,
    ),
    (
        "health",
        "The patient in bed {mark} was diagnosed with type 2 diabetes and takes metformin twice a day.",
        Sensitivity.CONFIDENTIAL,
    ),
    (
        "health",
        "Her biopsy number {mark} came back positive and she starts chemotherapy next week.",
        Sensitivity.CONFIDENTIAL,
    ),
    (
        "personnel",
        "We are going to let Peter go at the end of the month, his file is {mark}.",
        Sensitivity.CONFIDENTIAL,
    ),
    (
        "legal",
        "Our lawyers advise us to settle the lawsuit for {mark} dollars before it goes to trial.",
        Sensitivity.CONFIDENTIAL,
    ),
    (
        "finance",
        "The board approved the acquisition of our competitor for {mark} million, not public yet.",
        Sensitivity.CONFIDENTIAL,
    ),
    (
        "customer-data",
        "The caller of ticket {mark} lost her job and cannot pay the rent because her husband left her.",
        Sensitivity.CONFIDENTIAL,
    ),
)


def confidences() -> list[Canary]:
    """Return sentences that no pattern of a secret gives away, each with a number of its own."""
    numbers = random.Random(f"{SEED} marks").sample(range(100_000, 1_000_000), len(SAID) * EACH)
    marks = iter(numbers)
    made = []
    for topic, sentence, level in SAID:
        for _ in range(EACH):
            mark = next(marks)
            text = sentence.format(mark=mark)
            made.append(Canary(f"topic:{topic}", _mark(text, mark), text, level))
    return made


def _mark(text: str, mark: int) -> str:
    """Return the word that has the mark, with the word before it: a bare number may stand anywhere."""
    words = text.split()
    at = next(place for place, word in enumerate(words) if str(mark) in word)
    return " ".join(words[at - 1 : at + 1])


@functools.cache
def everything() -> tuple[Canary, ...]:
    """Return all canaries."""
    return (*credentials(), *confidences())


class Net:
    """Finds needles in large texts in one pass, as they are or as JSON writes them: eight bytes at a time."""

    HEAD = 8

    def __init__(self, canaries: tuple[Canary, ...] | list[Canary]) -> None:
        self._forms: defaultdict[int, list[bytes]] = defaultdict(list)
        for canary in canaries:
            for form in {canary.needle.encode(), json.dumps(canary.needle)[1:-1].encode()}:
                self._forms[int.from_bytes(form[: self.HEAD], "little")].append(form)
        self._likely = np.zeros(1 << 24, dtype=bool)
        self._likely[[head & (len(self._likely) - 1) for head in self._forms]] = True

    def caught(self, text: str | bytes) -> set[str]:
        """Return the needles that stand in `text`."""
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        found: set[bytes] = set()
        for offset in range(min(self.HEAD, max(0, len(data) - self.HEAD + 1))):
            words = np.frombuffer(data, "<u8", (len(data) - offset) // self.HEAD, offset)
            for place in np.flatnonzero(self._likely[words & np.uint64(len(self._likely) - 1)]).tolist():
                at = offset + place * self.HEAD
                found.update(form for form in self._forms.get(int(words[place]), ()) if data.startswith(form, at))
        return {form.decode() for form in found}

    def caught_in(self, folder: Path) -> dict[str, set[str]]:
        """Return the needles that stand in the files below `folder`, by file."""
        found = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and "models" not in path.relative_to(folder).parts:
                needles = self.caught(path.read_bytes())
                if needles:
                    found[path.name] = needles
        return found
