"""What must be found: one table of secret kinds, each in the surroundings in which it occurs."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from tests.sensitivity.samples import HEX, VENDOR_TOKENS, drawn, encoded, pem

from knowledge_system.sensitivity.detector import find

PASSWORD = drawn(11, seed=3) + "!"
TOKEN = drawn(32, seed=4)
NUMBER = drawn(40, HEX, seed=5)


def covered(text: str, value: str) -> bool:
    """Whether one finding covers every occurrence of `value`."""
    start = text.find(value)
    return start != -1 and any(f.start <= start and start + len(value) <= f.end for f in find(text))


@pytest.mark.parametrize("kind", sorted(VENDOR_TOKENS))
@pytest.mark.parametrize(
    "place", ["{}", "x = '{}'", "see {}.", 'curl -H "X-Key: {}"', "https://host/path?k={}&a=1", '{{"a": "{}"}}']
)
def test_published_token_formats_are_found_by_their_form(kind: str, place: str) -> None:
    text = place.format(VENDOR_TOKENS[kind])
    assert covered(text, VENDOR_TOKENS[kind])


@pytest.mark.parametrize("kind", sorted(VENDOR_TOKENS))
def test_the_kind_names_the_vendor(kind: str) -> None:
    assert [f.kind for f in find(f"use {VENDOR_TOKENS[kind]} now")] == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "DB_PASSWORD={}",
        "export DB_PASSWORD='{}'",
        "password: {}",
        "  password: '{}',",
        '{{"password": "{}"}}',
        '{{\\"password\\": \\"{}\\"}}',
        'password = "{}"',
        "const dbPassword: string = '{}';",
        "my_password := `{}`",
        "mysql -u root --password {} db",
        "mysql -u root --password={} db",
        "mysql -uroot -p{} db",
        "curl -u admin:{} https://host/",
        "curl --user 'admin:{}' https://host/",
        "sshpass -p {} ssh host",
        "postgres://app:{}@db.internal:5432/app",
        "amqp://app:{}@mq/vhost",
        "redis://:{}@cache:6379/0",
        "Server=db;User Id=sa;Password={};",
        "the password is {}",
        "Password : {}",
        'if (password == "{}") {{',
        'if ("{}" === password) {{',
        "set DB_PASS={}",
        "$pass = ConvertTo-SecureString '{}' -AsPlainText -Force",
        "-Domain x -Password '{}'",
        'password = os.environ.get("DB") or "{}"',
        'SecretStr("x"); password=SecretStr("{}")',
        "name: DB_PASSWORD\n  value: {}",
        "https://host/login?user=a&password={}&x=1",
        "\u5bc6\u7801: {}",
    ],
)
def test_passwords_are_found_where_they_are_assigned_or_passed(text: str) -> None:
    assert covered(text.format(PASSWORD), PASSWORD)


@pytest.mark.parametrize(
    "name",
    ["API_KEY", "api-key", "apiKey", "accessToken", "client_secret", "X-Auth-Token", "secretAccessKey", "private_key"],
)
@pytest.mark.parametrize(
    "form", ["{}={}", "{}: {}", '"{}": "{}"', "{} = '{}'", '{} => "{}"', '\\"{}\\": \\"{}\\"', "--{} {}"]
)
def test_tokens_are_found_behind_their_names(name: str, form: str) -> None:
    assert covered(form.format(name, TOKEN), TOKEN)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"Authorization: Bearer {TOKEN}", TOKEN),
        (f"Authorization: Basic {encoded('admin:' + PASSWORD)}", encoded("admin:" + PASSWORD)),
        (f"'authorization': 'Bearer {TOKEN}'", TOKEN),
        (f"curl -H 'Authorization: token {NUMBER}'", NUMBER),
        (f"https://hooks.slack.com/services/T{drawn(8)}/B{drawn(8)}/{drawn(24)}", drawn(24)),
        (f"https://{TOKEN}@github.com/a/b.git", TOKEN),
        (f"AccountKey={drawn(86)}==;EndpointSuffix=x", drawn(86)),
        (f"//registry/:_authToken={TOKEN}", TOKEN),
        (
            f"SNYK_TOKEN={drawn(8, HEX)}-{drawn(4, HEX)}-4{drawn(3, HEX)}-9{drawn(3, HEX)}-{drawn(12, HEX)}",
            drawn(12, HEX),
        ),
        (
            f"otpauth://totp/x?secret={drawn(32, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567')}&issuer=a",
            drawn(32, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
        ),
        (json.dumps({"kty": "EC", "d": drawn(43)}), drawn(43)),
        (f"session?token%3D{TOKEN}%26a%3D1", TOKEN),
    ],
)
def test_headers_webhooks_and_keys_in_urls(text: str, value: str) -> None:
    assert covered(text, value)


def test_a_connection_string_keeps_its_host() -> None:
    text = f"postgres://app:{PASSWORD}@db.example.org:5432/app"
    (finding,) = find(text)
    assert text[finding.start : finding.end] == PASSWORD


def test_passwords_with_slashes_and_percent_signs_in_urls() -> None:
    for value in ("p%40ss%2Fw0rd", "ab/cd#ef9x"):
        assert covered(f"mysql://root:{value}@localhost/db", value)


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\\n", "\\\\n"])
def test_a_private_key_block_is_one_finding(kind: str, newline: str) -> None:
    text = f"before\n{pem(kind, newline=newline)}\nafter"
    (finding,) = find(text)
    assert text[finding.start : finding.end] == pem(kind, newline=newline)
    assert finding.kind == "private-key"


def test_a_key_block_cut_off_by_a_size_limit_is_found_to_its_end() -> None:
    block = pem(footer=False)
    for cut in (len(block), len(block) - 30, 90):
        text = "output:\n" + block[:cut]
        assert any(f.end == len(text) for f in find(text))


def test_a_key_block_that_lost_its_beginning_is_found() -> None:
    block = pem()
    tail = block[200:]
    (finding,) = find("... " + tail + "\ndone")
    assert finding.end == len("... " + tail)
    assert finding.start <= len("... ") + 40


def test_quoted_and_concatenated_key_lines_are_one_block() -> None:
    text = "key = (\n" + "\n".join(f'    "{line}\\n"' for line in pem().split("\n")) + "\n)"
    (finding,) = find(text)
    assert "END RSA" in text[finding.start : finding.end]


def test_an_openpgp_and_a_url_encoded_key() -> None:
    assert find(pem("PGP ").replace("PRIVATE KEY-", "PRIVATE KEY BLOCK-"))
    assert find("key=" + quote(pem()))


def test_secrets_inside_base64_are_found() -> None:
    for inner in (pem(), f"user: app\npassword: {PASSWORD}\nregion: eu-central-1\nname: something\n"):
        assert find("data: " + encoded(inner))


def test_public_keys_and_certificates_are_no_secrets() -> None:
    body = "\n".join(drawn(64, seed=seed) for seed in range(4))
    for name in ("PUBLIC KEY", "CERTIFICATE"):
        assert find(f"-----BEGIN {name}-----\n{body}\n-----END {name}-----") == []
