"""Cursor exports, hook-rendered transcripts and live session logs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.transcripts.samples import Result

CURSOR = """# Add a cache
_Exported on {when} from Cursor (1.7.46)_

---

**User**

how?

---

**Cursor**

Like this:

---

## Steps

**User** names stay in text.

---

**User**

thanks

---

**Cursor**

Sure.
"""


def test_cursor_blocks_and_rules_in_answers(read: Callable[..., Result]) -> None:
    result = read(CURSOR.format(when="6/29/2025 at 10:52:17 PDT"))
    assert result.prompts == ["how?", "thanks"]
    assert result.answers[0].startswith("Like this:\n\n---\n\n## Steps")
    assert result.answers[0].endswith("**User** names stay in text.")
    session = result.exchanges[0].session
    assert (session.title, session.agent, session.project) == ("Add a cache", "cursor", "shop")
    assert session.metadata == {"cursor": "1.7.46", "exported_at": "2025-06-29T10:52:17+00:00"}


@pytest.mark.parametrize("when", ["19/10/2025 at 12:29:42 GMT+8", "2025. 6. 27. at 14:17:35 GMT+9", "whenever"])
def test_a_cursor_chat_exported_again_is_the_same_session(read: Callable[..., Result], when: str) -> None:
    first = read(CURSOR.format(when="6/29/2025 at 10:52:17 PDT"), "a/chat.md")
    again = read(CURSOR.format(when=when), "b/other-name.md")
    assert first.exchanges[0].session.id == again.exchanges[0].session.id
    assert again.prompts == first.prompts


def test_cursor_with_windows_line_ends_and_bom(read: Callable[..., Result]) -> None:
    text = CURSOR.format(when="6/29/2025 at 10:52:17 PDT").replace("\n", "\r\n")
    assert read(b"\xef\xbb\xbf" + text.encode()).prompts == ["how?", "thanks"]


RENDERED = """# Conversation: 2026-03-01

| Field | Value |
|-------|-------|
| Date | 2026-03-01 |
| Session ID | `c4b1d7f0-92aa-4a70-b3a4-0f6f5e1d2c3b` |
| Model | claude-opus-4-8 |

---

## User (23:58 UTC)

why twice?

## Assistant (23:59 UTC)

Looking.

- **Used Read** on `src/w.py` (offset=10, limit=5)

- **Used Edit** on `src/w.py`

- **Used Bash**: `pytest -q`

- **Used Bash**: Build everything

- **Used SendMessage**

## User

is a heading of mine

## Assistant (00:03 UTC)

Fixed.

## User (00:05 UTC)

<teammate-message teammate_id="qa" color="green">
{"type":"idle_notification"}
</teammate-message>

## User (00:06 UTC)

[Request interrupted by user]

## User (00:07 UTC)

push
"""


def test_rendered_turns_and_tools(read: Callable[..., Result]) -> None:
    result = read(RENDERED)
    assert result.prompts == ["why twice?", "push"]
    first = result.exchanges[0]
    assert first.assistant == "Looking.\n\n## User\n\nis a heading of mine\n\nFixed."
    assert [(tool.name, tool.input) for tool in first.tools] == [
        ("Read", "src/w.py"),
        ("Edit", "src/w.py"),
        ("Bash", "pytest -q"),
        ("Bash", '{"description": "Build everything"}'),
        ("SendMessage", '{"description": ""}'),
    ]
    assert (first.facts.files, first.facts.commands) == (("src/w.py",), ("pytest -q",))
    assert first.session.id == "c4b1d7f0-92aa-4a70-b3a4-0f6f5e1d2c3b"
    assert first.session.agent == "claude-code"


def test_rendered_times_pass_midnight(read: Callable[..., Result]) -> None:
    first, second = read(RENDERED).exchanges
    assert first.timestamp == datetime(2026, 3, 1, 23, 58, tzinfo=UTC)
    assert second.timestamp == datetime(2026, 3, 2, 0, 7, tzinfo=UTC)


def test_messages_of_other_agents_are_notes_and_interruptions_marks(read: Callable[..., Result]) -> None:
    first = read(RENDERED).exchanges[0]
    assert "idle_notification" in first.facts.notes[0]
    assert first.facts.interrupted


def test_a_session_of_agents_only_says_so(read: Callable[..., Result]) -> None:
    text = RENDERED.replace("why twice?", "<teammate-message>do it</teammate-message>").replace(
        "\npush\n", "\n<teammate-message>"
    )
    result = read(text)
    assert not result.exchanges
    assert "without a human prompt" in result.reasons


LSL = """# WORK SESSION (1400-1500) - From infra

**Generated:** 2026-02-24T14:05:12.480Z
**Source Project:** /home/dana/src/infra

---

## Key Activities

### Read - 2026-02-24 13:04:11 UTC [14:04:11 CET] (Redirected)

**User Request:** why is the backup gone?

**Tool:** Read
**Input:** ```json
{
  "file_path": "/home/dana/src/infra/backup.sh"
}
```

**Result:** ✅ Success

---

### Edit - 2026-02-24 13:06:11 UTC [14:06:11 CET] (Redirected)

**User Request:** why is the backup gone?

**Tool:** Edit
**Input:** ```json
{"file_path": "/home/dana/src/infra/backup.sh"}
```

**Result:** ❌ Error

---

### TodoWrite - 2026-02-24 13:07:00 UTC [14:07:00 CET] (Redirected)

**User Request:** (Initiated automatically)

**Tool:** TodoWrite
**Input:** ```json
{}
```

**Result:** ✅ Success

---

### Text Exchange - 2026-02-24 13:08:00 UTC [14:08:00 CET] (Redirected)

**User Message:** [Request interrupted by user]

**Type:** Text-only exchange (no tool calls)

---

### Text Exchange - 2026-02-24 13:09:00 UTC [14:09:00 CET] (Redirected)

**User Message:** this entry is wrong:
### Bash - 2026-02-20 06:02:44 UTC [07:02:44 CET]

**User Request:** (Initiated automatically)

**Type:** Text-only exchange (no tool calls)

---

### Text Exchange - 2026-02-24 13:10:00 UTC [14:10:00 CET] (Redirected)

**User Message:** This session is being continued from a previous conversation that ran out of context.

**Type:** Text-only exchange (no tool calls)

---

### Text Exchange - 2026-02-24 13:11:00 UTC [14:11:00 CET] (Redirected)

**User Message:** well?

**Assistant Response:** It was the unit.

Second line.

**Type:** Text-only exchange (no tool calls)

---
"""


def test_log_entries_with_the_same_request_are_one_exchange(read: Callable[..., Result]) -> None:
    result = read(LSL)
    assert result.prompts == ["why is the backup gone?", "this entry is wrong:", "well?"]
    first = result.exchanges[0]
    assert [(tool.name, tool.is_error) for tool in first.tools] == [
        ("Read", False),
        ("Edit", True),
        ("TodoWrite", False),
    ]
    assert first.facts.files == ("backup.sh",)
    assert first.facts.interrupted
    assert first.timestamp == datetime(2026, 2, 24, 13, 4, 11, tzinfo=UTC)


def test_log_answers_summaries_and_session(read: Callable[..., Result]) -> None:
    _, second, third = read(LSL).exchanges
    assert second.facts.notes[0].startswith("This session is being continued")
    assert third.assistant == "It was the unit.\n\nSecond line."
    assert (third.session.project, third.session.agent) == ("infra", "claude-code")
    assert third.session.id.startswith("lsl-")


def test_each_hour_of_a_log_is_a_session(read: Callable[..., Result]) -> None:
    one = read(LSL, "a/x.md").exchanges[0].session
    two = read(LSL.replace("(1400-1500)", "(1500-1600)"), "a/y.md").exchanges[0].session
    copy = read(LSL, "b/renamed.md").exchanges[0].session
    assert one.id == copy.id
    assert one.id != two.id


def test_a_request_asked_again_after_an_interruption_is_another(read: Callable[..., Result]) -> None:
    quoted = LSL[LSL.index("this entry is wrong:") : LSL.index("**Type:**", LSL.index("this entry is wrong:"))]
    again = LSL.replace(quoted, "why is the backup gone?\n\n")
    result = read(again)
    assert result.prompts[:2] == ["why is the backup gone?"] * 2
    assert [exchange.occurrence for exchange in result.exchanges][:2] == [0, 1]
