"""The checklist after a deployment, asked of real parts."""

from __future__ import annotations

from pathlib import Path

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.deployed import after_deployment
from knowledge_system.application.engine import budget_change, engine_state
from knowledge_system.application.telemetry import open_telemetry


async def test_what_can_be_known_of_a_new_service_passes_and_nothing_stays_behind(
    tmp_path: Path, judging: Path
) -> None:
    (tmp_path / "models").symlink_to(judging, target_is_directory=True)
    async with Parts(settings.load(tmp_path, environ={}), "test") as parts:
        await open_telemetry(parts)
        document = await after_deployment(parts)
        outcomes = {one["id"]: one["outcome"] for one in document["answers"]}
        assert list(outcomes) == [f"R392.{number}" for number in range(1, 10)]
        known = {name for name, outcome in outcomes.items() if outcome == "passed"}
        assert known == {"R392.1", "R392.3", "R392.7", "R392.8", "R392.9"}, document
        assert (document["failed"], document["passed"]) == ([], False)
        status = await (await engine_state(parts)).ledger.status()
        assert (status.settled_nano, status.reserved_nano) == (0, 0)
        assert (await (await parts.truth()).ledger.totals()).exchanges == 0

        await budget_change(parts, "freeze")
        frozen = {one["id"]: one["outcome"] for one in (await after_deployment(parts))["answers"]}
        assert frozen["R392.8"] == "passed", "a limit that holds is a budget that is tracked"
