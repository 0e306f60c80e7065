"""Bad content: never an exception, always a reason."""

from __future__ import annotations

import json
import string
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.transcripts.conftest import EXAMPLES
from tests.transcripts.samples import Claude, Codex, Result, jsonl, read_file

from knowledge_system.transcripts.lines import MAX_LINE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SAMPLES = sorted(path for path in EXAMPLES.rglob("*") if path.is_file() and path.name != "README.md")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"  \n\n\t\n", "white space only"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "binary"),
        ("user: hello".encode("utf-16"), "UTF-16"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "compressed"),
        (b"# README\n\nA project.\n", "no transcript"),
        (b'{"name": "left-pad", "version": "1.0.0"}', "no transcript format known here"),
        (b'{"a": ' + b"[" * 100_000, "no transcript"),
        (b"[1, 2, 3]", "no transcript"),
        (b"null\n42\n", "no transcript"),
        (b'[project]\nname = "x"\n', "no transcript of a format known here"),
    ],
)
def test_what_is_no_transcript_is_skipped_in_one_line(read: Callable[..., Result], content: bytes, reason: str) -> None:
    (skipped,) = read(content).skipped
    assert reason in skipped.reason
    assert "\n" not in skipped.reason


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert "does not exist" in read_file(tmp_path / "nothing").skipped[0].reason
    assert "no regular file" in read_file(tmp_path).skipped[0].reason


def test_the_byte_order_mark_and_windows_line_ends(read: Callable[..., Result]) -> None:
    text = Claude().ask("go").say("ok").text().replace("\n", "\r\n")
    result = read(b"\xef\xbb\xbf" + text.encode())
    assert (result.prompts, result.warnings) == (["go"], [])


def test_bytes_of_another_encoding_are_replaced_and_told(read: Callable[..., Result]) -> None:
    raw = Claude().ask("caf\u00e9").text().encode().replace("\u00e9".encode(), b"\xe9")
    result = read(raw)
    assert result.prompts == ["caf\ufffd"]
    assert "line 1: bytes that are not UTF-8 were replaced" in result.reasons


def test_lines_that_are_no_objects_are_skipped_and_counted(read: Callable[..., Result]) -> None:
    text = "null\n42\n" + Claude().ask("go").text() + '"text"\n[1]\n' + Claude().say("ok").text()
    result = read(text)
    assert result.prompts == ["go"]
    assert "line 1: a line that is no JSON object was skipped (4 times)" in result.reasons


def test_json_nested_too_deeply_is_skipped(read: Callable[..., Result]) -> None:
    deep = '{"type":"user","message":' + '{"a":' * 200_000 + "1" + "}" * 200_001
    result = read(Claude().ask("go").text() + deep + "\n" + Claude().say("ok").text())
    assert (result.prompts, result.answers) == (["go"], ["ok"])
    assert "line 2: skipped: JSON nested too deeply" in result.reasons


def test_a_last_line_cut_off(read: Callable[..., Result]) -> None:
    text = Claude().ask("go").say("ok").text()
    result = read(text[:-30])
    assert result.prompts == ["go"]
    assert "line 2: the last line is incomplete" in result.reasons


def test_a_last_line_without_line_end_counts(read: Callable[..., Result]) -> None:
    assert read(Claude().ask("go").say("ok").text().rstrip("\n")).answers == ["ok"]


def test_a_line_too_long_is_skipped_with_its_place(read: Callable[..., Result]) -> None:
    long = json.dumps({"type": "user", "message": {"content": "x" * (MAX_LINE + 10)}})
    result = read(Claude().ask("go").text() + long + "\n" + Claude().say("ok").text())
    assert (result.prompts, result.answers) == (["go"], ["ok"])
    assert "line 2: a line of 16 MB is longer than 16 MB: skipped" in result.reasons


def test_nul_and_lone_surrogates_never_come_out(read: Callable[..., Result]) -> None:
    made = Claude().ask("a\x00b").say("c\ud800d").use("Ba\x00sh", "t", command="x\udfff").result("t", "y\x00")
    (exchange,) = read(
        jsonl(json.loads(json.dumps(record)) for record in made.records).encode("utf-8", "replace")
    ).exchanges
    escaped = "".join(json.dumps(record) + "\n" for record in made.records)
    (exchange,) = read(escaped).exchanges
    everything = repr(exchange)
    assert "\\x00" not in everything
    assert "\\ud800" not in everything
    exchange.user.encode()
    assert exchange.user == "a\ufffdb"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
CLAUDE = Claude().ask("go").use("Task", "t", subagent_type="x").result("t", [{"type": "text", "text": "r"}]).say("ok")
CLAUDE.add({"type": "summary", "summary": "s", "leafUuid": "u0"})
CLAUDE.add({"type": "progress", "data": {"type": "agent_progress", "message": {"message": {"content": []}}}})
CLAUDE.add({"type": "attachment", "attachment": {"type": "queued_command", "prompt": "x"}})
CODEX = Codex().ask("go").record("turn_context", {"model": "m"}).run(["ls"], '{"output":"x"}').say("ok")
CODEX.event(type="token_count", info={"total_token_usage": {"input_tokens": 1}, "last_token_usage": {}})
COPILOT = json.loads((EXAMPLES / "copilot" / "shop-frontend" / "chat.json").read_text("utf-8"))
KNOWLEDGE = json.loads((EXAMPLES / "knowledge-transcript" / "infra.json").read_text("utf-8"))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in _places(one, (*path, key)))]


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize(
    ("document", "as_lines"),
    [(CLAUDE.records, True), (CODEX.records, True), (COPILOT, False), (KNOWLEDGE, False)],
    ids=["claude", "codex", "copilot", "knowledge"],
)
@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_anywhere_never_raises(
    read: Callable[..., Result],
    document: Any,
    as_lines: bool,  # noqa: FBT001 -- a column of the table above
    data: st.DataObject,
) -> None:
    place = data.draw(st.sampled_from(_places(document)))
    changed = _replaced(document, place, data.draw(JSON))
    lines = changed if as_lines and isinstance(changed, list) else [changed]
    result = read("".join(json.dumps(line) + "\n" for line in lines))
    assert result.skipped or result.batches
    for exchange in result.exchanges:
        assert exchange.session.id
        assert exchange.session.project


@given(data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_never_raise(read: Callable[..., Result], data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from(SAMPLES)).read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(raw)))
        match data.draw(st.sampled_from(["cut", "put", "repeat"])):
            case "cut":
                del raw[at : at + data.draw(st.integers(1, 400))]
            case "put":
                raw[at:at] = data.draw(st.binary(max_size=20))
            case _:
                raw[at:at] = raw[at : at + data.draw(st.integers(1, 400))]
    result = read(bytes(raw))
    assert result.skipped or result.batches


@given(st.text(alphabet=string.printable + "#>_*`-⎿é", max_size=400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_never_raises(read: Callable[..., Result], text: str) -> None:
    for opening in (
        "",
        "# aider chat started at 2026-01-01 00:00:00\n",
        "## SpecStory\n_**User**_\n",
        "# Conversation: x\n|\n## User\n",
    ):
        result = read(opening + text)
        assert result.skipped or result.batches
