"""Everything that can be checked, each check on its own: one that fails does not hide the others."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import Busy, IntegrityFailure, KnowledgeError, UsageError
from knowledge_system.operations.diagnosis import Finding, attempt, check_home, check_truth

if TYPE_CHECKING:
    from knowledge_system.application.compose import Parts


async def examine(parts: Parts) -> list[Finding]:
    """Return the findings of all checks."""
    findings = [Finding("python", "ok", f"{platform.python_implementation()} {sys.version.split()[0]}")]
    findings.append(await attempt("configuration", lambda: _configuration(parts)))
    home = await attempt("home", lambda: _home(parts))
    if home.grade == "error":
        return [*findings, home]
    findings.extend(check_home(parts.home().path))
    findings.append(await attempt("topics", lambda: _topics(parts)))
    findings.append(await attempt("model", lambda: _model(parts)))
    findings.extend(await _truth(parts))
    findings.append(await _index(parts))
    findings.extend(_processes(parts))
    findings.extend(await _capture(parts))
    return findings


async def _capture(parts: Parts) -> list[Finding]:
    """Compare the transcripts on disk with what was captured: a failure that nobody sees is the worst."""
    from knowledge_system.application.capturing import measure

    try:
        report = await measure(parts)
    except KnowledgeError as error:
        return [Finding("capture", "error", error.message, error.hint, error.exit_code)]
    seen = report["transcripts"]
    findings = [Finding("capture", "warning", *_told(alarm)) for alarm in report["alarms"]] or [
        Finding("capture", "ok", f"{seen['captured']} of {seen['expected']} exchanges in {seen['files']} transcripts")
    ]
    errors = report["hook_errors"]
    if errors:
        findings.append(
            Finding("hooks", "warning", f"last: {errors[-1]}", "see hooks.log in the home; remove it once it is solved")
        )
    return findings


def _told(alarm: str) -> tuple[str, str]:
    """Return an alarm as what is wrong and what to do."""
    what, _, advice = alarm.rpartition(": ")
    return what, advice


async def _configuration(parts: Parts) -> str:
    path = parts.settings.config_file
    await parts.runtime().recall()
    for key, reason in parts.runtime().ignored().items():
        raise UsageError(f"{key}, changed at run time, is ignored: {reason}", hint="knowledge config overrides, undo")
    return f"{path} is valid" if path.exists() else "defaults (no file)"


async def _home(parts: Parts) -> str:
    return str(parts.home().path)


async def _topics(parts: Parts) -> str:
    parts.gatekeeper()
    path = parts.settings.topics_file
    return f"{path} is valid" if path.exists() else "built-in topics"


async def _model(parts: Parts) -> str:
    model = parts.model()
    await model.load()  # a model that was not there before is tried again now
    await model.embed(["ready"])
    return f"{model.space.key} answers"


async def _truth(parts: Parts) -> list[Finding]:
    try:
        return await check_truth(await parts.truth())
    except KnowledgeError as error:
        return [Finding("database", "error", error.message, error.hint, error.exit_code)]


async def _index(parts: Parts) -> Finding:
    try:
        parts.own()
    except Busy as error:
        return Finding("index", "warning", error.message, "checked when the other process has ended")
    return await attempt("index", lambda: _compared(parts))


def _processes(parts: Parts) -> list[Finding]:
    from knowledge_system.application import model_process
    from knowledge_system.application.index_process import findings

    if parts.servers:
        from knowledge_system.application import index_server

        return [*index_server.findings(parts), *model_process.findings(parts)]
    return [*(findings(parts) if parts.processes else []), *model_process.findings(parts)]


async def _compared(parts: Parts) -> str:
    index = await parts.index()
    report = await index.verify()
    if not report.ok:
        raise IntegrityFailure("; ".join(report.problems), hint="run `knowledge index rebuild`")
    missing, surplus = await (await parts.indexer()).compare()
    if missing or surplus:
        raise IntegrityFailure(
            f"the index lacks {len(missing)} entries and has {len(surplus)} too many",
            hint="run `knowledge index verify`",
        )
    return f"{report.points} points, equal to the truth"
