"""Hostile and huge inputs: the detector's work grows in proportion to the text."""

from __future__ import annotations

import base64

import pytest

from knowledge_system.sensitivity.detector import find

SIZE = 400_000
UNITS = [
    "a",
    "=",
    "'",
    '"',
    "\\",
    '\\"',
    "\"'",
    ":",
    "@",
    "a@",
    "a@a.",
    "1",
    "1 ",
    "1-",
    "1.",
    "1:",
    "(1",
    "+1",
    "A",
    "AKIA",
    "eyJ",
    "eyJ-",
    "eyJaaaaaaaa.",
    "-----BEGIN ",
    "-----BEGIN RSA PRIVATE KEY-----",
    "-----END RSA PRIVATE KEY-----\n",
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: ",
    "password",
    "password=",
    'password="',
    "password: ",
    "password: a ",
    'api_key",',
    "password=a(a(a(",
    "token = a(",
    "token" + " " * 24,
    "key\n",
    "://",
    "a://b:",
    "Basic ",
    "Bearer aaaaaaaa ",
    "curl -u a",
    "mysql ",
    "docker run a ",
    "lives at A 1 ",
    "1 Ab Cd Ef street ",
    "address: ",
    "id number 1234567 ",
    '"kty":"',
    "Private-Lines: 1 ",
    "hooks.slack.com/services/",
    "otpauth://",
    "GB82 ",
    "4111 1111 1111 1111 ",
    "oauth_token=abc123def456ghi789&",
    "SUA",
    "0123456789abcdef-",
    "[secret:",
    "[secret:password#1]",
    "{{",
    "${",
    "<",
    "\u0130",
    "\U0001f600",
    "\n",
    " ",
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", UNITS, ids=range(len(UNITS)))
def test_a_long_text_of_one_repeated_piece_ends(unit: str) -> None:
    find(unit * (SIZE // len(unit)))


@pytest.mark.timeout(60)
def test_a_long_text_of_base64_ends() -> None:
    plain = bytes(range(256)) * (SIZE * 3 // 4 // 256)
    assert find(base64.b64encode(plain).decode()) == []
    find(base64.b64encode(b"password: x " * (SIZE // 16)).decode())


def test_lone_surrogates_and_null_characters_are_read() -> None:
    text = "\ud800 password=Xk29dkfj2lq \0 \udfff"
    (finding,) = find(text)
    assert text[finding.start : finding.end] == "Xk29dkfj2lq"
