"""What every AuditLog promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.inference.contract.conftest import SettableClock

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.money import AuditEntry, AuditLog
from knowledge_system.domain.sensitivity import Sensitivity


async def test_an_entry_comes_back_as_it_went_in(audit: AuditLog, clock: SettableClock) -> None:
    entry = AuditEntry(
        at=clock.now(),
        kind="model-call",
        operation="extract",
        provider="groq",
        model="m",
        content_hash="ab" * 32,
        sensitivity=Sensitivity.PUBLIC,
        layer="pattern",
        project="api",
        cost_nano=12,
        outcome="answered",
        actor="",
    )
    await audit.record(entry)
    assert await audit.entries(5) == ([entry], None)


async def test_entries_come_newest_first_and_in_pages(audit: AuditLog, clock: SettableClock) -> None:
    first = AuditEntry(at=clock.now(), kind="model-call")
    for number in range(7):
        await audit.record(replace(first, outcome=str(number)))
    page, cursor = await audit.entries(3)
    assert [entry.outcome for entry in page] == ["6", "5", "4"]
    seen = [entry.outcome for entry in page]
    while cursor is not None:
        await audit.record(replace(first, outcome="new"))  # what arrives meanwhile disturbs no page
        page, cursor = await audit.entries(3, cursor)
        seen += [entry.outcome for entry in page]
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]


async def test_a_foreign_cursor_is_refused(audit: AuditLog) -> None:
    with pytest.raises(UsageError):
        await audit.entries(3, "no cursor at all")
