"""Reading on where a file was left."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.transcripts.conftest import EXAMPLES
from tests.transcripts.samples import Claude, Codex, Result, read_file

from knowledge_system.transcripts.files import FileTranscriptReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from knowledge_system.domain.sessions import RawExchange

KT = (
    '{"format":"knowledge-transcript/1","session":{"id":"s","project":"p"}}\n{"user":"a","assistant":"1"}\n'
    '{"user":"continue"}\n{"user":"b\u00e9","assistant":"2"}\n{"user":"continue","assistant":"3"}\n'
)
REPEATED = (
    Claude().ask("continue").say("1").ask("continue").use("Bash", "t", command="ls").result("t", "x").say("2")
    .add({"type": "summary", "summary": "T", "leafUuid": "u5"}).ask("continue", sessionId="other").say("caf\u00e9")
    .ask("last")
)  # fmt: skip
RESUMED = Codex("new", "2026-03-05T00:00:00Z").meta("old", "2026-03-04T00:00:00Z").ask("a").say("1").ask("a").say("2")
RESUMED.event(type="token_count", info={"total_token_usage": {"input_tokens": 9, "output_tokens": 3}}).ask("b").say("3")
GROWING = {
    "claude": (
        EXAMPLES / "claude-code/-home-dana-src-orders-api/5b1f0c9e-6d0e-4a57-9a55-0d4f6a7c1e21.jsonl"
    ).read_bytes(),
    "claude-repeated": REPEATED.text().encode(),
    "claude-glued": REPEATED.text().replace("}\n{", "}{").encode(),
    "claude-glued-bom": b"\xef\xbb\xbf" + REPEATED.text().replace("}\n", "} ", 5).encode(),
    "codex": next((EXAMPLES / "codex").iterdir()).read_bytes(),
    "codex-resumed": RESUMED.text().encode(),
    "aider": (EXAMPLES / "aider/ledger-sync/.aider.chat.history.md").read_bytes(),
    "knowledge": KT.encode(),
}


def _merged(first: Result, second: Result) -> list[RawExchange]:
    by_index = {exchange.index: exchange for exchange in [*first.exchanges, *second.exchanges]}
    return [by_index[index] for index in sorted(by_index)]


@pytest.mark.parametrize("name", GROWING)
@given(share=st.floats(0, 1, exclude_max=True))
@example(share=0.5)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_split_anywhere_reads_as_the_whole(tmp_path: Path, name: str, share: float) -> None:
    data = GROWING[name]
    path = tmp_path / "growing"
    path.write_bytes(data)
    whole = read_file(path)
    path.write_bytes(data[: int(len(data) * share)])
    first = read_file(path)
    path.write_bytes(data)
    second = read_file(path, first.state if first.states else None)
    assert _merged(first, second) == whole.exchanges
    assert second.state.exchanges == len(whole.exchanges)


@pytest.mark.parametrize("name", GROWING)
def test_reading_resumes_at_the_last_exchange(tmp_path: Path, name: str) -> None:
    data = GROWING[name]
    path = tmp_path / "growing"
    path.write_bytes(data)
    whole = read_file(path)
    with path.open("ab") as stream:
        stream.write(b"\n")
    again = read_file(path, whole.state)
    assert again.exchanges == whole.exchanges[-1:]


def test_an_unchanged_file_yields_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data in (*GROWING.values(), (EXAMPLES / "knowledge-transcript/infra.json").read_bytes()):
        path.write_bytes(data)
        state = read_file(path).state
        assert read_file(path, state) == Result()


def test_a_file_without_exchanges_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(Codex().text())
    state = read_file(path).state
    assert (state.exchanges, read_file(path, state).batches) == (0, 0)


def test_a_replaced_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(Claude().ask("a").say("1").ask("b").say("2").text())
    state = read_file(path).state
    path.write_text(Claude(cwd="/elsewhere").ask("x").say("1").ask("y").say("2").ask("z").text())
    assert read_file(path, state).prompts == ["x", "y", "z"]


def test_a_shorter_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    long = Claude().ask("a" * 5000).say("1").ask("b").say("2")
    path.write_text(long.text())
    state = read_file(path).state
    path.write_text(Claude().ask("a" * 5000).say("1").text())
    assert len(read_file(path, state).exchanges) == 1


def test_a_file_rewritten_in_the_middle_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    made = Claude().ask("a" * 5000).say("1").ask("secret").say("2").ask("c").say("3")
    path.write_text(made.text())
    state = read_file(path).state
    path.write_text(made.text().replace("secret", "public") + Claude().ask("d").text())
    assert read_file(path, state).prompts == ["a" * 5000, "public", "c", "d"]


def test_a_touched_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(Claude().ask("a").say("1").ask("b").say("2").text())
    state = read_file(path).state
    os.utime(path, ns=(1, 1))
    assert read_file(path, state).prompts == ["a", "b"]


def test_formats_that_are_rewritten_are_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    text = "<!-- Generated by SpecStory -->\n\n# T (2025-04-28 14:34:17)\n\n_**User**_\n\na\n"
    path.write_text(text)
    state = read_file(path).state
    path.write_text(text + "\n---\n\n_**User**_\n\nb\n")
    assert read_file(path, state).prompts == ["a", "b"]


@pytest.mark.parametrize("name", ["claude-repeated", "claude-glued", "claude-glued-bom", "codex", "aider", "knowledge"])
def test_stopping_after_any_batch_loses_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(GROWING[name])
    reader = FileTranscriptReader(batch_exchanges=1)
    whole = read_file(path, reader=reader)
    assert whole.batches == len(whole.exchanges) > 1
    for number, state in enumerate(whole.states):
        first = Result(exchanges=whole.exchanges[: number + 1])
        second = read_file(path, state, reader)
        assert _merged(first, second) == whole.exchanges
        assert bool(second.batches) == (number < len(whole.states) - 1)


def test_the_state_is_plain_json(read: Callable[..., Result]) -> None:
    for data in GROWING.values():
        state = read(data).state
        assert json.loads(json.dumps(state.resume)) == state.resume
