"""Sessions for the tests of the path, written as a developer and an agent would leave them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from knowledge_system.domain.sessions import Exchange, ExchangeFacts, ToolCall

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def edit(path: str) -> ToolCall:
    return ToolCall("Edit", f'{{"file_path": "{path}"}}', "ok")


def read(path: str) -> ToolCall:
    return ToolCall("Read", f'{{"file_path": "{path}"}}', "1  import os")


def run(command: str, output: str = "", *, failed: bool = False) -> ToolCall:
    return ToolCall("Bash", command, output, is_error=failed)


FAILS = run("pytest -q", "E   KeyError: 'currency'\n1 failed, 30 passed in 4.2s", failed=True)
PASSES = run("pytest -q", "31 passed in 4.1s")


def exchange(
    index: int, user: str, assistant: str = "Done.", tools: tuple[ToolCall, ...] = (), **facts: Any
) -> Exchange:
    return Exchange(
        id=f"x{index:03}",
        session_id="s1",
        index=index,
        path="/logs/s1.jsonl",
        project="shop",
        agent="coder",
        user=user,
        assistant=assistant,
        content_hash=f"h{index}",
        timestamp=START + timedelta(minutes=5 * index),
        tools=tools,
        facts=ExchangeFacts(**facts),
    )


def fixed_bug() -> list[Exchange]:
    """Trouble that is looked into, repaired, and accepted."""
    return [
        exchange(
            0,
            "The checkout crashes with `KeyError: 'currency'` since the last deploy, can you find out why?",
            "The cart has no currency when it is empty. Next I would guard that in `cart.py`.",
            (read("shop/cart.py"), run("rg currency shop")),
        ),
        exchange(
            1,
            "yes, fix it please",
            "I default to EUR in `Cart.currency`.",
            (FAILS, edit("shop/cart.py"), PASSES),
            files=("shop/cart.py",),
        ),
        exchange(2, "great, that works now, thanks", "You are welcome."),
    ]


def blocked_loop() -> list[Exchange]:
    """The same error comes back again and again."""
    report = "npm run build fails:\nError: Cannot find module 'sharp'"
    broken = run("npm run build", "Error: Cannot find module 'sharp'\n    at Module._resolve", failed=True)
    return [
        exchange(0, report, "I reinstalled the package.", (run("npm install sharp", "added 1 package"), broken)),
        exchange(1, "still the same: Error: Cannot find module 'sharp'", "I cleared the cache.", (broken,)),
        exchange(2, "same error again", "Let me look at the platform.", (broken,)),
    ]


def corrected() -> list[Exchange]:
    """The user calls the agent back, and it gets on afterwards."""
    return [
        exchange(
            0,
            "Add a sort option to the product list on the catalogue page",
            "I rewrote the product list with a new table library.",
            (edit("web/catalogue.tsx"),),
            files=("web/catalogue.tsx",),
        ),
        exchange(
            1,
            "no, that's not what I asked. Revert that, I only want a sort option",
            "Reverted.",
            (edit("web/catalogue.tsx"),),
        ),
        exchange(2, "ok now add the sort option", "Added.", (edit("web/catalogue.tsx"), run("npm test", "12 passed"))),
    ]


def from_feature_to_docs() -> list[Exchange]:
    """A feature is built, tested and documented; then the session turns to something else."""
    return [
        exchange(
            0,
            "Please add an export command which writes all invoices of a month as CSV",
            "Added `invoices export`.",
            (read("billing/cli.py"), edit("billing/export.py")),
            files=("billing/export.py",),
        ),
        exchange(
            1,
            "write tests for the export, also for a month without invoices",
            "Three tests.",
            (edit("tests/test_export.py"), PASSES),
            files=("tests/test_export.py",),
        ),
        exchange(
            2, "document the export command in the readme", "Documented.", (edit("README.md"),), files=("README.md",)
        ),
        exchange(3, "commit and push", "Pushed.", (run("git push", "ok"),)),
        exchange(
            4,
            "Next task: the nightly backup of the warehouse database takes four hours, make it faster",
            "It dumps every table in turn; I run four at a time now.",
            (read("ops/backup.sh"), edit("ops/backup.sh")),
            files=("ops/backup.sh",),
        ),
    ]


def renamed(exchanges: list[Exchange], session: str) -> list[Exchange]:
    return [replace(one, id=f"{session}-{one.id}", session_id=session) for one in exchanges]
