"""Placeholders: typed, numbered, equal for equal values, never found again."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sensitivity.samples import VENDOR_TOKENS, drawn, pem

from knowledge_system.sensitivity.detector import PLACEHOLDER, find
from knowledge_system.sensitivity.memory import KeyedMemory
from knowledge_system.sensitivity.redaction import Tally, redact, redact_structured, spreader

KEY = b"k" * 32
AWS = VENDOR_TOKENS["aws-key"]
GITHUB = VENDOR_TOKENS["github-token"]
PASSWORD = drawn(12, seed=11)


def memory(state: dict[str, dict[str, int]] | None = None) -> KeyedMemory:
    return KeyedMemory(KEY, state)


def test_a_secret_becomes_a_typed_numbered_placeholder() -> None:
    assert redact(f"key {AWS}, mail a@b-c.org", memory()) == ("key [secret:aws-key#1], mail [personal:email#1]", 2)


def test_equal_values_get_equal_placeholders_over_the_texts_of_a_session() -> None:
    remembered = memory()
    other = "ghp_" + drawn(36, seed=99)
    first, _ = redact(f"{GITHUB} {other}", remembered)
    second, _ = redact(f"again {other} and {GITHUB}", remembered)
    assert first == "[secret:github-token#1] [secret:github-token#2]"
    assert second == "again [secret:github-token#2] and [secret:github-token#1]"


def test_a_resumed_session_continues_the_numbers() -> None:
    before = memory()
    redact(f"{GITHUB}", before)
    stored = json.loads(json.dumps(before.state()))
    text, _ = redact(f"{'ghp_' + drawn(36, seed=98)} {GITHUB}", memory(stored))
    assert text == "[secret:github-token#2] [secret:github-token#1]"


def test_the_memory_keeps_no_value_and_no_plain_hash() -> None:
    remembered = memory()
    redact(f"password={PASSWORD}", remembered)
    state = json.dumps(remembered.state())
    assert PASSWORD not in state
    assert hashlib.sha256(PASSWORD.encode()).hexdigest()[:32] not in state
    assert remembered.state() != KeyedMemory(b"other" * 8, None).state()


def test_memories_with_other_keys_have_other_digests() -> None:
    one, other = KeyedMemory(b"1" * 32), KeyedMemory(b"2" * 32)
    one.number("password", PASSWORD)
    other.number("password", PASSWORD)
    assert one.state() != other.state()


PIECES = st.sampled_from(
    [
        *VENDOR_TOKENS.values(),
        pem(),
        f"password={PASSWORD}",
        f"postgres://a:{PASSWORD}@h/d",
        "a.b@c-d.org",
        "+49 30 1234567",
        "10.1.2.3",
        "4111111111111111",
        "password: ",
        "token=",
        '"',
        "'",
        "\\n",
        "\n",
        " ",
        "{",
        "}",
        ":",
        "=",
        "://",
        "@",
        "[secret:",
        "[secret:password#1]",
        "[personal:email#2]",
        "#1]",
        "Bearer ",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----END RSA PRIVATE KEY-----",
        "x" * 20,
        "1" * 12,
        "key",
        "ghp_",
        "::1",
        "lives at ",
        "Main Street 5",
    ]
)
TEXTS = st.one_of(st.lists(st.one_of(PIECES, st.text(max_size=12)), max_size=8).map("".join), st.text(max_size=300))


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_redacting_twice_changes_nothing(text: str) -> None:
    remembered = memory()
    once, _ = redact(text, remembered)
    assert redact(once, remembered) == (once, 0)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_findings_are_sorted_disjoint_within_the_text_and_spare_placeholders(text: str) -> None:
    findings = find(text)
    edges = [edge for finding in findings for edge in (finding.start, finding.end)]
    assert edges == sorted(edges)
    assert all(0 <= finding.start < finding.end <= len(text) for finding in findings)
    taken = [match.span() for match in PLACEHOLDER.finditer(text)]
    assert not any(f.start < end and start < f.end for f in findings for start, end in taken)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(VENDOR_TOKENS)),
    st.sampled_from(["", " ", "\n", '"', "'", "(", "=", ": ", ">", "\u00e9 "]),
    st.sampled_from(["", " ", "\n", '"', ")", ",", "<"]),
)
def test_no_token_survives_whatever_delimits_it(kind: str, before: str, after: str) -> None:
    token = VENDOR_TOKENS[kind]
    clean, count = redact(f"a{before or ' '}{token}{after}", memory())
    assert token not in clean
    assert count == 1


def test_a_text_with_characters_that_change_length_in_lower_case_keeps_its_positions() -> None:
    clean, _ = redact(f"\u0130\u0130\u0130 password={PASSWORD} end", memory())
    assert clean == "\u0130\u0130\u0130 password=[secret:password#1] end"


# --- structured texts -------------------------------------------------------------------------------------------------


def structured(document: object) -> tuple[object, Tally]:
    tally = Tally()
    text = redact_structured(json.dumps(document), memory(), tally)
    return json.loads(text), tally


def test_json_stays_json_and_is_redacted_inside_its_strings() -> None:
    command = f'export DB_PASSWORD="{PASSWORD}" && cat <<EOF\n{pem()}\nEOF'
    document, tally = structured({"command": command, "timeout": 5})
    assert document == {
        "command": 'export DB_PASSWORD="[secret:password#1]" && cat <<EOF\n[secret:private-key#1]\nEOF',
        "timeout": 5,
    }
    assert tally.placements == 2


def test_names_in_json_give_their_values_away() -> None:
    document, _ = structured(
        {"env": {"DB_PASSWORD": PASSWORD}, "vars": [{"name": "API_TOKEN", "value": drawn(30)}], "password": "short1"}
    )
    assert document == {
        "env": {"DB_PASSWORD": "[secret:password#1]"},
        "vars": [{"name": "API_TOKEN", "value": "[secret:token#1]"}],
        "password": "[secret:password#2]",
    }


def test_keys_and_large_numbers_of_json_are_redacted_too() -> None:
    document, _ = structured({GITHUB: 1, "card": 4111111111111111, "at": 1767028537123})
    assert document == {"[secret:github-token#1]": 1, "card": "[personal:card-number#1]", "at": 1767028537123}


def test_json_without_secrets_is_returned_as_it_was() -> None:
    text = '{ "a":1,\n"b" : [ "x" ] }'
    assert redact_structured(text, memory(), Tally()) == text


def test_broken_and_deeply_nested_json_is_redacted_as_text() -> None:
    for text in ('{"a": "' + GITHUB, "[" * 5000 + GITHUB + "]" * 5000):
        assert GITHUB not in redact_structured(text, memory(), Tally())


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.one_of(TEXTS, st.integers(), st.none(), st.booleans()),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
        max_leaves=6,
    )
)
def test_any_json_stays_valid_json(document: object) -> None:
    text = json.dumps(document)
    clean = redact_structured(text, memory(), Tally())
    if isinstance(document, dict | list):
        json.loads(clean)


def test_a_secret_found_once_is_replaced_where_it_stands_alone() -> None:
    tally = Tally()
    redact_structured(f"password={PASSWORD}", memory(), tally)
    spread = spreader(tally)
    assert spread(f"I typed {PASSWORD} twice: {PASSWORD}") == "I typed [secret:password#1] twice: [secret:password#1]"
    assert spread(f"x{PASSWORD}x") == f"x{PASSWORD}x"


@pytest.mark.parametrize("word", ["password", "secretword", "hunter"])
def test_a_plain_word_used_as_password_is_not_replaced_everywhere(word: str) -> None:
    tally = Tally()
    redact_structured(f'{{"password": "{word}"}}', memory(), tally)
    assert spreader(tally)(f"the {word} field") == f"the {word} field"


def test_placeholders_have_the_documented_form() -> None:
    clean, _ = redact(" ".join(VENDOR_TOKENS.values()), memory())
    assert all(re.fullmatch(r"\[secret:[a-z-]+#\d+\]", piece) for piece in clean.split())
