"""Episodes for the tests of learning: exchanges written for them, none of them from the training set."""

from __future__ import annotations

from typing import Any

from knowledge_system.domain.knowledge import Episode
from knowledge_system.domain.sessions import Exchange, ExchangeFacts, ToolCall


def exchange(user: str, assistant: str, index: int = 1, **facts: Any) -> Exchange:
    tools = tuple(facts.pop("tools", ()))
    return Exchange(
        id=f"x{index}",
        session_id="s",
        index=index,
        path="/logs/s.jsonl",
        project="shop",
        agent="coder",
        user=user,
        assistant=assistant,
        content_hash=f"h{index}",
        tools=tools,
        facts=ExchangeFacts(**facts),
    )


def episode(user: str, assistant: str, *following: str, **facts: Any) -> Episode:
    after = tuple(exchange(text, "", 2 + place) for place, text in enumerate(following))
    return Episode(exchange(user, assistant, **facts), (), after, ())


def run(command: str, output: str = "ok", *, error: bool = False) -> ToolCall:
    return ToolCall("Bash", command, output, is_error=error)


def edit(path: str) -> ToolCall:
    return ToolCall("Edit", path, "ok")


BUG = episode(
    "the nightly report is empty on mondays: KeyError: 'weekday'",
    "Let me look at the report code.\n\n"
    "The root cause is that `load_rows()` filters by `date.today()`, and on Mondays the previous working day is Friday,"
    " so the filter matches nothing. I changed `load_rows()` in `report/rows.py` to ask the calendar for the last"
    " working day instead of subtracting one day.\n\nAll 57 tests pass, including a new one for Mondays.",
    "great, thanks",
    tools=[
        run("pytest tests/report", "E  KeyError: 'weekday'\n1 failed, 55 passed", error=True),
        edit("report/rows.py"),
        run("pytest", "57 passed in 2.1s"),
    ],
    files=("/home/ann/shop/report/rows.py",),
)
