"""Which names announce a credential: identifiers cut into words and classed."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from knowledge_system.sensitivity.reading import word_set

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\x00-\x7f]+")

_LONGEST_NAME = 120
_PASSWORD = word_set(
    "password passwords passwd pwd pass passphrase passcode passwort kennwort pswd psw pw pword passw "
    "userpass userpassword rootpassword "
    "dbpass dbpassword smbpass creduser credpassword authpassword newpass oldpass mypass secpasswd "
    "contrase\u00f1a contrasena senha mdp "
    "\u043f\u0430\u0440\u043e\u043b\u044c \u5bc6\u7801 \u5bc6\u78bc \u30d1\u30b9\u30ef\u30fc\u30c9 "
    "\ube44\ubc00\ubc88\ud638"
)
_TOKEN = word_set(
    "secret secrets secrete token tokens apikey apitoken apisecret accesskey accesstoken authtoken "
    "secretkey credential credentials creds cred "
    "authorization authentication auth oauth jwt verifier bearer authkey privatekey clientsecret appsecret usertoken"
)
_KEY = word_set("key keys nkey xkey apikeys")
_KEY_QUALIFIER = word_set(
    "api access secret private consumer client application app encryption encrypt decryption signing "
    "sign master license licence auth oauth "
    "authentication storage account shared service hmac deploy webhook subscription admin write ingest "
    "insert security session cipher aes des "
    "rsa ssh root user global project integration server bot aws azure gcp google stripe openai "
    "anthropic groq gemini openrouter mistral cohere "
    "deepseek hubspot okta twilio sendgrid mailgun github gitlab slack datadog sentry algolia mapbox "
    "firebase supabase artif jwt token some"
)
_NOT_A_VALUE = word_set(
    "file files path paths name names id ids url uri urls type types length len size sizes count counts "
    "algorithm algorithms algo alg policy "
    "expiry expires expiration expired ttl field fields label labels hint placeholder regex pattern "
    "error errors message messages env variable "
    "variables var header headers version prefix suffix format digest options option config "
    "configuration enabled required reset provider "
    "providers service manager endpoint table column method methods timestamp limit limits budget usage "
    "strength tooltip title mode status "
    "state date time at age days rounds iterations cost placement scope scopes uses used per total "
    "remaining ref reference selector map index "
    "handler handlers class classes func function callback component page form input view screen dir "
    "directory folder location store ring "
    "rotation flow grant strategy source issuer audience response request req res result results event events changed "
    "fingerprint thumbprint hash hashes hashed encoder decoder validator validation rules rule "
    "requirements helper util utils factory generator "
    "text description desc cmd command prompt dialog button link role user username email level cache "
    "binding bindings press code down up stroke "
    "frame frames point points word words board board pair pairs pairs note notes docs example"
)
_PUBLIC = word_set(
    "public pub publishable site foreign primary partition sort hash cache unique composite idempotency storage_key"
)
_CAPTION = word_set(
    "label title forgot show hide invalid mandatory confirm repeat tooltip matching advice successfully "
    "incorrect wrong missing is has no not "
    "require requires must should can cannot placeholder reset bypass by onkey max min num number hash "
    "get check verify validate compare "
    "generate create parse handle use using with without per total prompt completion input output cached usage count"
)


class NameClass(NamedTuple):
    """How a name announces a value.

    `kind`: slug for the placeholder; `password`: any value counts; `least`: the shortest token; `compound`: the name
    has several words; `digests`: hexadecimal digits and UUIDs count as tokens.
    """

    kind: str
    password: bool
    least: int
    compound: bool
    digests: bool = True


@lru_cache(maxsize=4096)
def classify(name: str) -> NameClass | None:
    """Return the class of a name such as `dbPassword` or `X-Api-Key`, or None when it announces no credential."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or len(name) > _LONGEST_NAME:
        return None
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    if words[-1] in _NOT_A_VALUE or words[0] in _PUBLIC or (len(words) > 1 and _PUBLIC & set(words[-3:-1])):
        return None
    if _CAPTION & set(words[:-1]):
        return None
    return _class_of(words)


def _class_of(words: list[str]) -> NameClass | None:
    last, compound = words[-1], len(words) > 1
    near = set(words[-3:])
    if _PASSWORD & near:
        return NameClass("password", password=True, least=4, compound=compound)
    if "signature" in near and near & {"oauth", "auth"}:
        return NameClass("token", password=False, least=10, compound=True)
    if last in _KEY or last.endswith("apikey"):
        return _key_class(words, compound=compound)
    if _TOKEN & near or words[0] in {"oauth", "jwt"}:
        return NameClass("token", password=False, least=10, compound=compound)
    return None


def _key_class(words: list[str], *, compound: bool) -> NameClass:
    qualified = bool(_KEY_QUALIFIER & set(words[:-1])) or words[-1] in {"nkey", "xkey", "apikey"}
    return NameClass("api-key", password=False, least=10 if qualified else 20, compound=compound, digests=qualified)
