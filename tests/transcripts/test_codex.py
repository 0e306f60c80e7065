"""Codex CLI rollouts: every quirk of the format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.transcripts.samples import SESSION, Codex, Result, jsonl

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC_KIT = """
## User Input

```text
{given}
```

You **MUST** consider the user input before proceeding (if not empty).

## Outline

1. **Setup**: Run `.specify/scripts/bash/setup-plan.sh --json` from repo root.

```text
another fence
```
"""


def test_texts_written_twice_are_read_once(read: Callable[..., Result]) -> None:
    result = read(Codex().ask("why?").say("Because.").say("So.").ask("ok").text())
    assert result.prompts == ["why?", "ok"]
    assert result.answers == ["Because.\n\nSo.", ""]
    assert not result.warnings


def test_the_session_and_its_repository(read: Callable[..., Result]) -> None:
    session = read(Codex().ask("why?").text()).exchanges[0].session
    assert (session.id, session.agent, session.project) == (SESSION, "codex", "ledger-sync")
    assert (session.cwd, session.git_branch) == ("/home/dana/ledger", "main")


def test_without_a_repository_the_directory_names_the_project(read: Callable[..., Result]) -> None:
    assert read(Codex(git=None).ask("why?").text()).exchanges[0].session.project == "ledger"


def test_environment_blocks_are_no_prompts(read: Callable[..., Result]) -> None:
    made = Codex()
    for text in (
        "<environment_context>\n</environment_context>",
        "# AGENTS.md instructions for /x",
        "<user_instructions>",
    ):
        made.item(type="message", role="user", content=[{"type": "input_text", "text": text}])
    assert read(made.ask("go").say("ok").text()).prompts == ["go"]


def test_a_spec_kit_command_is_what_was_typed(read: Callable[..., Result]) -> None:
    made = Codex().ask(SPEC_KIT.format(given="Add a login page\nwith two fields")).say("ok")
    assert read(made.text()).prompts == ["Add a login page\nwith two fields"]


def test_a_spec_kit_command_without_input_is_named_by_its_outline(read: Callable[..., Result]) -> None:
    (prompt,) = read(Codex().ask(SPEC_KIT.format(given="")).say("ok").text()).prompts
    assert prompt.startswith("(spec-kit command without input: 1. **Setup**: Run `.specify/scripts/bash/setup-plan.sh")


def test_what_the_editor_adds_to_a_prompt_is_left_out(read: Callable[..., Result]) -> None:
    text = "# Context from my IDE setup:\n\n## Active file: a.py\n\n## My request for Codex:\nwhy is it slow?\n"
    assert read(Codex().ask(text).text()).prompts == ["why is it slow?"]


def test_another_prompt_with_a_heading_stays_whole(read: Callable[..., Result]) -> None:
    text = "## User Input\n\nshould be validated"
    assert read(Codex().ask(text).text()).prompts == [text]


@pytest.mark.parametrize(
    ("output", "text", "expected"),
    [
        ('{"output":"fine","metadata":{"exit_code":0}}', "fine", "fine"),
        ('{"output":"boom","metadata":{"exit_code":2}}', "boom", "failed"),
        ("Plan updated", "Plan updated", "fine"),
        ("Exit code: 1\nOutput:\nno", "Exit code: 1\nOutput:\nno", "failed"),
        ({"content": "a", "success": False}, "a", "failed"),
        ([{"type": "output_text", "text": "part"}], "part", "fine"),
        ('{"not": "the envelope"}', '{"not": "the envelope"}', "fine"),
        ("failed in sandbox LinuxSeccomp with execution error", None, "failed"),
    ],
)
def test_outputs_come_in_envelopes(read: Callable[..., Result], output: Any, text: str | None, expected: str) -> None:
    (tool,) = read(Codex().ask("go").run(["bash", "-lc", "ls -la"], output).text()).exchanges[0].tools
    assert (tool.name, tool.input) == ("shell", "ls -la")
    assert tool.output == (output if text is None else text)
    assert tool.is_error is (expected == "failed")


@pytest.mark.parametrize(
    ("command", "shown"), [(["ls", "a b"], "ls 'a b'"), ("make test", "make test"), (["zsh", "-c", "pwd"], "pwd")]
)
def test_commands_are_shown_as_typed(read: Callable[..., Result], command: Any, shown: str) -> None:
    exchange = read(Codex().ask("go").run(command, "x").text()).exchanges[0]
    assert exchange.tools[0].input == shown
    assert exchange.facts.commands == (shown,)


def test_patches_name_the_files_they_change(read: Callable[..., Result]) -> None:
    patch = "*** Begin Patch\n*** Update File: src/a.py\n@@\n-x\n+y\n*** Add File: b.md\n+z\n*** Move to: c.md\n"
    made = Codex().ask("go").item(type="custom_tool_call", name="apply_patch", input=patch, call_id="p")
    made.item(type="custom_tool_call_output", call_id="p", output='{"output":"Success","metadata":{"exit_code":0}}')
    shell = "apply_patch <<'X'\n*** Begin Patch\n*** Delete File: d.txt\n*** End Patch\nX"
    made.run(["bash", "-lc", shell], "ok", key="q")
    exchange = read(made.text()).exchanges[0]
    assert exchange.facts.files == ("src/a.py", "b.md", "c.md", "d.txt")
    assert exchange.tools[0].output == "Success"


def test_an_aborted_turn_is_interrupted(read: Callable[..., Result]) -> None:
    made = Codex().ask("first").event(type="turn_aborted", reason="interrupted").ask("second").say("ok")
    assert [exchange.facts.interrupted for exchange in read(made.text()).exchanges] == [True, False]


def _tokens(total: tuple[int, int, int], last: tuple[int, int, int]) -> dict[str, Any]:
    keys = ("input_tokens", "cached_input_tokens", "output_tokens")
    info = {
        "total_token_usage": dict(zip(keys, total, strict=True)),
        "last_token_usage": dict(zip(keys, last, strict=True)),
    }
    return {"type": "token_count", "info": info}


def test_usage_follows_the_totals_of_the_session(read: Callable[..., Result]) -> None:
    made = (
        Codex().ask("a").event(**_tokens((100, 40, 10), (100, 40, 10))).event(**_tokens((100, 40, 10), (100, 40, 10)))
    )
    made.ask("b").event(**_tokens((250, 100, 30), (150, 60, 20))).event(type="token_count", info=None)
    usages = [exchange.facts.usage for exchange in read(made.text()).exchanges]
    assert [(usage.input, usage.cache_read, usage.output) for usage in usages] == [(60, 40, 10), (90, 60, 20)]


def test_the_model_comes_from_the_turn(read: Callable[..., Result]) -> None:
    made = Codex().ask("a").record("turn_context", {"model": "gpt-5.6-sol", "cwd": "/x"}).say("ok").ask("b")
    assert [exchange.facts.model for exchange in read(made.text()).exchanges] == ["gpt-5.6-sol", "gpt-5.6-sol"]


def test_a_resumed_copy_belongs_to_the_original_session(read: Callable[..., Result]) -> None:
    original = Codex("original", "2026-03-04T08:00:00Z").ask("a").say("1").ask("b").say("2")
    resumed = Codex("resumed", "2026-03-05T08:00:00Z").meta("original", "2026-03-04T08:00:00Z")
    resumed.records += original.records[1:]
    resumed.ask("c").say("3")
    first, second = read(original.text(), "one"), read(resumed.text(), "two")
    assert {exchange.session.id for exchange in second.exchanges} == {"original"}
    assert second.exchanges[0].session.metadata["rollouts"] == ["resumed"]
    assert second.prompts == [*first.prompts, "c"]
    assert [exchange.occurrence for exchange in second.exchanges] == [0, 0, 0]


def test_the_original_may_come_first(read: Callable[..., Result]) -> None:
    made = Codex("original", "2026-03-04T08:00:00Z").ask("a").meta("resumed", "2026-03-05T08:00:00Z").ask("b")
    assert {exchange.session.id for exchange in read(made.text()).exchanges} == {"original"}


def test_a_sub_agents_rollout_holds_no_prompts(read: Callable[..., Result]) -> None:
    result = read(Codex(source={"subagent": "review"}).ask("review this").say("fine").text())
    assert not result.exchanges
    assert "sub-agent" in result.reasons


def test_a_rollout_without_events_is_read_by_its_items(read: Callable[..., Result]) -> None:
    made = Codex()
    for text in ("<environment_context></environment_context>", "why?"):
        made.item(type="message", role="user", content=[{"type": "input_text", "text": text}])
    made.item(type="message", role="assistant", content=[{"type": "output_text", "text": "Because."}])
    made.item(type="message", role="user", content=[{"type": "input_text", "text": "last one"}])
    result = read(made.text())
    assert (result.prompts, result.answers) == (["why?", "last one"], ["Because.", ""])


def test_the_oldest_layout_has_bare_items(read: Callable[..., Result]) -> None:
    records = [
        {"id": SESSION, "timestamp": "2025-05-01T10:00:00Z", "instructions": None},
        {"record_type": "state"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "why?"}]},
        {"type": "function_call", "name": "shell", "arguments": '{"command":["ls"]}', "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": '{"output":"a","metadata":{"exit_code":0}}'},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Because."}]},
    ]
    (exchange,) = read(jsonl(records)).exchanges
    assert (exchange.session.id, exchange.user, exchange.assistant) == (SESSION, "why?", "Because.")
    assert exchange.tools[0].output == "a"


def test_a_first_line_with_a_whole_manual_is_recognised(read: Callable[..., Result]) -> None:
    made = Codex(instructions="rule\r\n" * 100_000).ask("go").say("ok")
    assert read(json.dumps(made.records[0], separators=(",", ":")) + "\n" + jsonl(made.records[1:])).prompts == ["go"]


def test_only_meta_and_environment_is_no_fault(read: Callable[..., Result]) -> None:
    result = read(Codex().text())
    assert (result.exchanges, result.skipped, result.warnings) == ([], [], [])
    assert result.batches == 1


def test_encrypted_reasoning_is_never_kept(read: Callable[..., Result]) -> None:
    made = Codex().ask("go").item(type="reasoning", summary=[], encrypted_content="gAAAA" + "x" * 500).say("ok")
    assert "gAAAA" not in repr(read(made.text()).exchanges)


def test_a_compaction_becomes_a_note(read: Callable[..., Result]) -> None:
    exchange = read(Codex().ask("go").record("compacted", {"message": "So far: a, b."}).say("ok").text()).exchanges[0]
    assert exchange.facts.notes == ("So far: a, b.",)
