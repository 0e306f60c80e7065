"""Every canary through the command line: read from transcripts, imported, asked for, exported, embedded far away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.canaries.birds import Canary, confidences, credentials
from tests.canaries.conftest import ALL, KEYS, REDACTED, World
from tests.interfaces.conftest import FIXED_BUG, Cli, transcript

Exchange = dict[str, Any]
DENSE = 24
"""Canaries of one exchange that is secret for their number alone; it is stored and never embedded or learned from."""
LIGHT = 24
"""Exchanges with one canary each: they are embedded, learned from, and shown to a model on this machine."""
LONE = "49827461530"
"""A number that is the whole output of a tool: nothing but its loneliness gives it away."""
SETTING = "qX7rT2mKp9Lw4Zb8"
"""A value without a telling name, in a file of credentials."""


def exchanges() -> Iterator[Exchange]:
    """Yield all canaries as exchanges: in prompts, answers, tool calls and their outputs, by turns."""
    birds = credentials()
    for number, start in enumerate(range(0, len(birds), DENSE)):
        texts = [one.text for one in birds[start : start + DENSE]]
        quarter = len(texts) // 4 or 1
        user, answer, given, output = ("\n".join(texts[at : at + quarter]) for at in range(0, 4 * quarter, quarter))
        rest = "\n".join(texts[4 * quarter :])
        tools = [{"name": "Bash", "input": {"command": given, "description": f"step {number}"}, "output": output}]
        tools.append({"name": "Write", "input": given, "output": rest, "is_error": True})
        yield {"user": f"{number}: {user}", "assistant": answer, "tools": tools}
    for number, one in enumerate(birds[:: len(birds) // LIGHT]):
        yield {**FIXED_BUG, "user": f"{FIXED_BUG['user']} It is case {number}.", "assistant": learnable(one)}
    for start in range(0, len(confidences()), 10):
        said = [one.text for one in confidences()[start : start + 10]]
        yield {"user": said[0], "assistant": "\n".join(said[1:])}
    tools = [{"name": "Read", "input": {"file_path": "/app/.env"}, "output": f"FOO_REGION={SETTING}"}]
    tools.append({"name": "Bash", "input": {"command": "id"}, "output": LONE})
    yield {"user": "read the settings", "assistant": "done", "tools": tools}


def learnable(one: Canary) -> str:
    return f"{FIXED_BUG['assistant']}\n\nFor the record:\n{one.text}"


ORDINARY = "The flaky test of the calendar failed because the clock was not mocked; I pass a fixed time zone now."


def write_transcripts(folder: Path) -> None:
    """Write the exchanges in two formats, with canaries in what surrounds exchanges and in lines that are broken."""
    listed = list(exchanges())
    for number, start in enumerate(range(0, len(listed), 40)):
        transcript(folder / f"t{number}.json", f"s{number}", listed[start : start + 40])
    plain = [{**FIXED_BUG, "assistant": f"{FIXED_BUG['assistant']} {ORDINARY}"}]
    transcript(folder / "ordinary.json", "ordinary", plain, "calendar")
    around, branch, title, *broken = credentials()[7 : 7 + 40 * 13 : 13]
    head = {"sessionId": "c1", "cwd": f"/srv/{around.needle}", "gitBranch": f"fix/{branch.needle}", "version": "2.0.0"}
    lines = [
        {"type": "summary", "summary": title.text, "leafUuid": "u1"},
        {"type": "user", "uuid": "u1", "parentUuid": None, "timestamp": "2026-01-01T00:00:00.000Z", **head}
        | {"message": {"role": "user", "content": "What is in the file?"}},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    damaged = "\n".join(f'{{"type": "user", "message": {{"content": "{json.dumps(one.text)[1:-1]}' for one in broken)
    (folder / "claude.jsonl").write_text(f"{text}\n{damaged}\n", encoding="utf-8")
    (folder / "broken.json").write_text('{"format": "knowledge-transcript/1", "exchanges": [' + broken[0].text)


@dataclass
class Ran:
    """What was printed, by command."""

    world: World
    cli: Cli
    printed: dict[str, str]

    def run(self, name: str, *arguments: str | Path, stdin: str | None = None, codes: tuple[int, ...] = (0,)) -> str:
        done = self.cli.run(*arguments, stdin=stdin)
        assert done.returncode in codes, done.stderr[-2000:]
        self.printed[name] = done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def ran(world: World, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Ingest everything once, with a model allowed to learn and the way to remote providers wide open."""
    folder = tmp_path_factory.mktemp("transcripts")
    write_transcripts(folder)
    world.configure(learning={"withModel": "always"})
    one = Ran(world, Cli(world.home, KEYS), {})
    ingested = json.loads(one.run("ingest", "-v", "--json", "ingest", folder))
    assert ingested["exchanges"]["new"] > 180
    assert ingested["sensitivity"]["redactions"] > 3_000
    one.run("export", "-v", "export")
    return one


def test_what_is_stored_logged_and_printed_has_no_secret(ran: Ran) -> None:
    ran.run("list", "-v", "list", "--limit", "500")
    ran.run("sessions", "--json", "sessions", "--limit", "500")
    ran.run("doctor", "-v", "doctor", codes=(0, 1, 5))
    for name, printed in ran.printed.items():
        assert REDACTED.caught(printed) == set(), name
    assert SETTING not in ran.printed["export"]
    assert LONE not in ran.printed["export"]
    assert REDACTED.caught_in(ran.world.home) == {}
    for path in (SETTING, LONE):
        assert not [one for one in ran.world.home.rglob("*") if one.is_file() and path.encode() in one.read_bytes()]


def test_learning_with_a_model_shows_the_remote_one_no_canary(ran: Ran) -> None:
    assert ran.world.servers.local.requests, "a local model was asked"
    assert "calendar" in ran.world.servers.seen_far(), "the remote model was asked about what is not sensitive"
    assert ALL.caught(ran.world.servers.seen_far()) == set()
    assert REDACTED.caught(ran.world.servers.seen_near()) == set(), "what is stored is redacted, for local models too"


def test_questions_are_answered_and_logged_without_their_secrets(ran: Ran) -> None:
    birds = [*credentials()[:: len(credentials()) // 70], *confidences()[::20]]
    queries = "".join(json.dumps({"query": one.text, "limit": 3, "accuracy": "high"}) + "\n" for one in birds)
    answers = ran.run("search", "-v", "search", "--batch", "-", stdin=queries).splitlines()
    assert len(answers) == len(birds)
    ran.run("one search", "-v", "search", birds[0].text)
    ran.run("broken search", "-v", "search", "--batch", "-", stdin='{"query": "' + birds[1].needle, codes=(2,))
    ran.run("wrong option", "search", "x", "--type", birds[0].needle, codes=(2,))
    results = [json.loads(answer)["results"] for answer in answers]
    assert REDACTED.caught(json.dumps(results)) == set()
    assert REDACTED.caught_in(ran.world.home) == {}
    assert ALL.caught(ran.world.servers.seen_far()) == set()


def test_the_larger_space_is_filled_without_what_is_confidential(ran: Ran) -> None:
    ran.run("backfill", "-v", "index", "backfill", "--yes", codes=(0, 4, 5))
    sent = [one for one in ran.world.servers.remote.requests if one.path.endswith("/embeddings")]
    assert sent, "what is not sensitive was embedded far away"
    assert ALL.caught(ran.world.servers.seen_far()) == set()
    assert REDACTED.caught(ran.printed["backfill"]) == set()


def test_what_is_imported_passes_the_same_door(ran: Ran, tmp_path: Path) -> None:
    exported = ran.printed["export"].splitlines()
    records = [json.loads(line) for line in exported if line.startswith("{")]
    sample = {record["kind"]: record for record in records}
    file = tmp_path / "import.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in imported(sample)), encoding="utf-8")
    done = json.loads(ran.run("import", "-v", "--json", "import", file))
    assert done["new"] > 100
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text(credentials()[3].text + "\n" + json.dumps({"kind": credentials()[4].needle}))
    ran.run("damaged import", "-v", "import", damaged, codes=(2,))
    after = ran.run("exported again", "export")
    for name in ("import", "damaged import", "exported again"):
        assert REDACTED.caught(ran.printed[name]) == set(), name
    assert REDACTED.caught_in(ran.world.home) == {}
    levels = {
        record["sensitivity"]
        for record in map(json.loads, after.splitlines())
        if record["kind"] == "exchange" and record["id"].startswith("ximported")
    }
    assert levels == {"confidential", "secret"}


def imported(sample: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield records that somebody else wrote: canaries in every field, all of them called public."""
    birds = credentials()
    for number in range(0, len(birds) - 30, 30):
        bundle = birds[number : number + 30]
        texts = [one.text for one in bundle]
        facts = {"files": [texts[0]], "commands": [texts[1]], "notes": texts[2:4], "git_branch": texts[-1]}
        tools = [{"name": "Bash", "input": texts[-1], "output": "\n".join(texts[8:])}]
        same = {"id": f"ximported{number}", "session_id": f"imported{number}", "sensitivity": "public"}
        said = {"user": "\n".join(texts[4:6]), "assistant": "\n".join(texts[6:8]), "tools": tools, "facts": facts}
        session = {"id": f"imported{number}", "title": texts[0], "cwd": f"/srv/{texts[1]}"}
        yield {**sample["session"], **session, "git_branch": texts[2], "metadata": {"summary": texts[3]}}
        yield {**sample["exchange"], **same, **said, "redactions": 0}
    for one in confidences()[:64]:
        same = {"id": f"ximported{one.needle.split()[-1]}", "session_id": "imported", "sensitivity": "public"}
        if one.kind in {"topic:falcon", "topic:employees"}:
            yield {**sample["exchange"], **same, "user": one.text, "assistant": "", "tools": [], "facts": {}}
