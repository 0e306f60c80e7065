"""Made-up secrets, put together at run time so that no scanner finds a credential in this repository."""

from __future__ import annotations

import base64
import random
import string

ALPHANUMERIC = string.ascii_letters + string.digits
HEX = "0123456789abcdef"


def drawn(length: int, alphabet: str = ALPHANUMERIC, seed: int = 7) -> str:
    """Return a random text that always has a small letter, a capital and a digit where the alphabet has them."""
    source = random.Random(f"{seed}{length}{alphabet}")
    text = [source.choice(alphabet) for _ in range(length)]
    for position, group in enumerate((string.ascii_lowercase, string.ascii_uppercase, string.digits)):
        usable = [c for c in group if c in alphabet]
        if usable and length > 3 * position + 2:
            text[3 * position + 2] = source.choice(usable)
    return "".join(text)


def pem(kind: str = "RSA ", lines: int = 6, newline: str = "\n", *, footer: bool = True) -> str:
    body = [drawn(64, ALPHANUMERIC + "+/", seed) for seed in range(lines)]
    parts = [f"-----BEGIN {kind}PRIVATE KEY-----", *body]
    if footer:
        parts.append(f"-----END {kind}PRIVATE KEY-----")
    return newline.join(parts)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def json_web_token() -> str:
    return ".".join(("eyJ" + drawn(33, seed=1), "eyJ" + drawn(60, seed=2), drawn(43, ALPHANUMERIC + "-_", 3)))


VENDOR_TOKENS = {
    "aws-key": "AKIA" + drawn(16, string.ascii_uppercase + string.digits),
    "github-token": "ghp_" + drawn(36),
    "gitlab-token": "glpat-" + drawn(20),
    "slack-token": "xoxb-" + drawn(12, string.digits) + "-" + drawn(24),
    "stripe-key": "sk_live_" + drawn(24),
    "google-key": "AIza" + drawn(35),
    "model-key": "sk-ant-api03-" + drawn(80),
    "npm-token": "npm_" + drawn(36),
    "pypi-token": "pypi-AgEIcHlwaS5vcmc" + drawn(80),
    "sendgrid-key": "SG." + drawn(22) + "." + drawn(43),
    "telegram-token": "123456789:AA" + drawn(33),
    "vault-token": "hvs." + drawn(24),
    "digitalocean-token": "dop_v1_" + drawn(64, HEX),
    "shopify-token": "shpat_" + drawn(32, HEX),
    "jwt": json_web_token(),
    "age-key": "AGE-SECRET-KEY-1" + drawn(58, string.ascii_uppercase + string.digits),
    "docker-token": "dckr_pat_" + drawn(27),
    "nkey-seed": "SU" + drawn(56, string.ascii_uppercase + "234567"),
    "azure-key": drawn(3) + "8Q~" + drawn(34),
    "mailgun-key": "key-" + drawn(32, HEX),
}
