"""The door: every text redacted, a level assigned, an identity that lasts."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime

import pytest
from tests.sensitivity.samples import VENDOR_TOKENS, drawn, pem

from knowledge_system.domain.sensitivity import Gatekeeper, Sensitivity
from knowledge_system.domain.sessions import ExchangeFacts, RawExchange, Session, ToolCall, exchange_id
from knowledge_system.sensitivity.gatekeeper import DoorGatekeeper
from knowledge_system.sensitivity.topics import TopicRules, parse_topics

GITHUB = VENDOR_TOKENS["github-token"]
PASSWORD = drawn(12, seed=21)
MAIL = "ana.silva@corp.io"
SESSION = Session(id="s1", project="api", agent="any", format="f", path="/t/s1.jsonl", title="Fix login")


def gatekeeper(topics: dict[str, object] | None = None) -> DoorGatekeeper:
    rules = parse_topics(topics, "test") if topics else TopicRules()
    return DoorGatekeeper(rules, b"k" * 32)


def raw(
    user: str = "hello",
    assistant: str = "done",
    *,
    tools: tuple[ToolCall, ...] = (),
    facts: ExchangeFacts | None = None,
    session: Session = SESSION,
) -> RawExchange:
    return RawExchange(
        session,
        0,
        user,
        assistant,
        tools=tools,
        facts=facts or ExchangeFacts(),
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    )


def level(*args: str, **kwargs: object) -> Sensitivity:
    door = gatekeeper()
    return door.admit(raw(*args, **kwargs), door.memory()).sensitivity  # type: ignore[arg-type]


def test_it_is_a_gatekeeper() -> None:
    port: Gatekeeper = gatekeeper()
    assert port.memory().state() == {}


def test_every_text_of_an_exchange_is_redacted() -> None:
    door = gatekeeper()
    exchange = door.admit(
        raw(
            f"use {GITHUB}",
            f"I used {GITHUB}",
            tools=(
                ToolCall("Bash", json.dumps({"command": f"curl -u a:{PASSWORD} https://h"}), f"token: {GITHUB}"),
                ToolCall("shell", f"echo {GITHUB}", "", agent="helper"),
            ),
            facts=ExchangeFacts(files=("/a",), commands=(f"echo {GITHUB}",), notes=(f"mail {MAIL}",)),
        ),
        door.memory(),
    )
    stored = json.dumps(dataclasses.asdict(exchange), default=str)
    assert not any(value in stored for value in (GITHUB, PASSWORD, MAIL))
    assert exchange.redactions == 7
    assert json.loads(exchange.tools[0].input) == {"command": "curl -u a:[secret:password#1] https://h"}
    assert exchange.tools[1].agent == "helper"
    assert exchange.facts.notes == ("mail [personal:email#1]",)


def test_what_the_reader_found_is_kept() -> None:
    door = gatekeeper()
    exchange = door.admit(raw(facts=ExchangeFacts(files=("/a",), model="m")), door.memory())
    assert (exchange.session_id, exchange.path, exchange.project, exchange.agent) == ("s1", "/t/s1.jsonl", "api", "any")
    assert exchange.facts == ExchangeFacts(files=("/a",), model="m")
    assert exchange.timestamp == datetime(2026, 1, 1, tzinfo=UTC)
    assert exchange.intent is None


def test_a_secret_found_in_one_text_is_replaced_in_the_others() -> None:
    door = gatekeeper()
    exchange = door.admit(raw(f"try {PASSWORD}", f"DB_PASSWORD={PASSWORD}"), door.memory())
    assert exchange.user == "try [secret:password#1]"


def test_the_identity_does_not_change_when_later_text_reveals_more() -> None:
    door = gatekeeper()
    before = door.admit(raw(f"try {PASSWORD}", ""), door.memory())
    after = door.admit(raw(f"try {PASSWORD}", f"DB_PASSWORD={PASSWORD}"), door.memory())
    assert before.id == after.id == exchange_id("s1", f"try {PASSWORD}", 0)
    assert before.content_hash != after.content_hash


def test_identity_and_hash_come_from_redacted_texts() -> None:
    door = gatekeeper()
    exchange = door.admit(raw(f"use {GITHUB}"), door.memory())
    assert exchange.id == exchange_id("s1", "use [secret:github-token#1]", 0)
    other = door.admit(raw("use " + "ghp_" + drawn(36, seed=50)), door.memory())
    assert (other.id, other.content_hash) == (exchange.id, exchange.content_hash)


def test_the_hash_knows_where_one_text_ends() -> None:
    door = gatekeeper()
    one = door.admit(raw("ab", "c"), door.memory())
    other = door.admit(raw("a", "bc"), door.memory())
    assert one.content_hash != other.content_hash


def test_the_memory_spans_exchanges_and_sessions_resumed() -> None:
    door = gatekeeper()
    first = door.memory()
    door.admit(raw(f"use {GITHUB}"), first)
    again = door.memory(json.loads(json.dumps(first.state())))
    assert door.admit(raw(f"again {GITHUB}"), again).user == "again [secret:github-token#1]"
    assert again.state() == first.state()


def test_a_session_speaks_of_itself_without_secrets() -> None:
    door = gatekeeper()
    session = dataclasses.replace(
        SESSION,
        title=f"Login with {GITHUB}",
        cwd="/home/x",
        git_branch="main",
        metadata={"env": {"API_TOKEN": drawn(30)}, "n": 1, "l": [MAIL]},
    )
    clean = door.admit_session(session, door.memory())
    assert clean.title == "Login with [secret:github-token#1]"
    assert clean.metadata == {"env": {"API_TOKEN": "[secret:token#1]"}, "n": 1, "l": ["[personal:email#1]"]}
    assert (clean.id, clean.cwd, clean.path) == ("s1", "/home/x", "/t/s1.jsonl")


# --- levels -----------------------------------------------------------------------------------------------------------


def test_nothing_found_is_internal() -> None:
    assert level("how do I sort a list", "sorted(x)") is Sensitivity.INTERNAL


def test_personal_data_and_few_credentials_are_confidential() -> None:
    assert level(f"mail {MAIL}") is Sensitivity.CONFIDENTIAL
    assert level(f"use {GITHUB}") is Sensitivity.CONFIDENTIAL


def test_an_address_of_a_private_network_is_hidden_without_raising_the_level() -> None:
    door = gatekeeper()
    exchange = door.admit(raw("ssh 192.168.1.17"), door.memory())
    assert (exchange.user, exchange.sensitivity) == ("ssh [personal:local-address#1]", Sensitivity.INTERNAL)


def test_private_keys_and_many_credentials_are_secret() -> None:
    assert level(assistant=pem()) is Sensitivity.SECRET
    tokens = [f"ghp_{drawn(36, seed=seed)}" for seed in range(5)]
    assert level(" ".join(tokens)) is Sensitivity.SECRET
    assert level(" ".join(tokens[:4])) is Sensitivity.CONFIDENTIAL
    assert level(" ".join(tokens[:1] * 9)) is Sensitivity.CONFIDENTIAL


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/app/.env", Sensitivity.CONFIDENTIAL),
        (".env.production", Sensitivity.CONFIDENTIAL),
        ("/home/a/.aws/credentials", Sensitivity.CONFIDENTIAL),
        ("~/.netrc", Sensitivity.CONFIDENTIAL),
        ("config/secrets.yml", Sensitivity.CONFIDENTIAL),
        ("server.pem", Sensitivity.CONFIDENTIAL),
        ("prod.tfvars", Sensitivity.CONFIDENTIAL),
        ("~/.kube/config", Sensitivity.CONFIDENTIAL),
        ("C:\\Users\\a\\.ssh\\id_ed25519", Sensitivity.SECRET),
        ("~/.ssh/id_rsa", Sensitivity.SECRET),
        ("store.p12", Sensitivity.SECRET),
        ("/etc/shadow", Sensitivity.SECRET),
        (".env.example", Sensitivity.INTERNAL),
        ("~/.ssh/id_rsa.pub", Sensitivity.INTERNAL),
        ("src/secrets.py", Sensitivity.INTERNAL),
        ("environment.ts", Sensitivity.INTERNAL),
        ("docs/env.md", Sensitivity.INTERNAL),
    ],
)
def test_files_of_credentials_raise_the_level_when_a_tool_touches_them(path: str, expected: Sensitivity) -> None:
    by_field = (ToolCall("Read", json.dumps({"file_path": path}), "x"),)
    by_command = (ToolCall("shell", f"cat {path}" if "\\" not in path else f"type {path}", "x"),)
    assert level(tools=by_field) is expected
    assert level(tools=by_command) is expected
    assert level(facts=ExchangeFacts(files=(path,))) is expected


def test_talking_about_a_file_of_credentials_does_not_raise_the_level() -> None:
    assert level("put it into .env and ~/.ssh/id_rsa") is Sensitivity.INTERNAL
    written = ToolCall("Write", json.dumps({"file_path": "README.md", "content": "copy .env.local to .env"}), "")
    assert level(tools=(written,)) is Sensitivity.INTERNAL


def test_every_random_value_of_a_settings_file_is_hidden_when_a_tool_reads_it() -> None:
    door = gatekeeper()
    value = drawn(20, seed=31)
    output = f"PORT=3000\nNODE_ENV=production\nSTRIPE={value}\nURL=https://example.org/\n"
    tool = ToolCall("Read", json.dumps({"file_path": "/app/.env"}), output)
    clean = door.admit(raw(tools=(tool,)), door.memory()).tools[0].output
    assert clean == "PORT=3000\nNODE_ENV=production\nSTRIPE=[secret:setting#1]\nURL=https://example.org/\n"


TOPICS = {
    "topics": [
        {"name": "payroll", "level": "confidential", "keywords": ["salary"]},
        {"name": "merger", "level": "secret", "patterns": ["Project [A-Z][a-z]+"]},
        {"name": "site", "level": "public", "globs": ["*/website/*"]},
    ]
}


def test_topics_raise_and_a_public_topic_lowers_only_the_default() -> None:
    door = gatekeeper(TOPICS)

    def admitted(user: str, *files: str) -> Sensitivity:
        return door.admit(raw(user, facts=ExchangeFacts(files=files)), door.memory()).sensitivity

    assert admitted("sum the SALARY column") is Sensitivity.CONFIDENTIAL
    assert admitted("about Project Zeus") is Sensitivity.SECRET
    assert admitted("fix css", "/w/website/a.css") is Sensitivity.PUBLIC
    assert admitted(f"fix css {MAIL}", "/w/website/a.css") is Sensitivity.CONFIDENTIAL
    assert admitted("fix css", "/w/app/a.css") is Sensitivity.INTERNAL
    assert admitted("salaryman") is Sensitivity.INTERNAL
    assert admitted("salary page", "/w/website/a.css") is Sensitivity.CONFIDENTIAL


def test_a_query_is_scrubbed_and_levelled() -> None:
    door = gatekeeper(TOPICS)
    assert door.scrub("how to sort") == ("how to sort", Sensitivity.INTERNAL)
    assert door.scrub(f"why did {GITHUB} fail") == ("why did [secret:github-token#1] fail", Sensitivity.CONFIDENTIAL)
    assert door.scrub("salary of the team")[1] is Sensitivity.CONFIDENTIAL


def test_a_project_is_named_after_its_directory_and_that_may_be_named_after_a_person() -> None:
    door = gatekeeper()
    memory = door.memory()
    session = dataclasses.replace(SESSION, project=MAIL)
    assert door.admit_session(session, memory).project == "[personal:email#1]"
    admitted = door.admit(raw(session=session), memory)
    assert (admitted.project, admitted.sensitivity) == ("[personal:email#1]", Sensitivity.INTERNAL)
