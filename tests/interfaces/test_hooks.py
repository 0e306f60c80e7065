"""Hooks as an agent calls them: real processes, with and without a running service."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.interfaces.conftest import CHORE, FIXED_BUG, Cli, transcript
from tests.interfaces.test_served import service

import knowledge_system

EVENTS = ["session-start", "prompt-submit", "tool-use", "pre-compact", "stop", "session-end"]


def hook(cli: Cli, event: str, payload: Any, agent: str = "claude-code") -> subprocess.CompletedProcess[str]:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return cli.run("hook", event, "--agent", agent, stdin=text)


def until(cli: Cli, query: str, deadline: float = 60) -> list[Any]:
    """Search until something is found that holds the words; what only resembles them is found as well."""
    end = threading.Event()
    timer = threading.Timer(deadline, end.set)
    timer.start()
    try:
        while not end.is_set():
            found = cli.json("search", query, "--limit", "3")["results"]
            if query in json.dumps(found):
                return list(found)
    finally:
        timer.cancel()
    pytest.fail(f"nothing was found for {query!r} within {deadline} s")


def emptied(spool: Path, deadline: float = 60) -> None:
    """Wait until the service has forgotten every notice, which it does after what they announce can be found."""
    end = time.monotonic() + deadline
    while left := list(spool.rglob("*.json")):
        assert time.monotonic() < end, left
        time.sleep(0.02)


@pytest.mark.parametrize("event", EVENTS)
def test_without_a_service_a_hook_leaves_a_notice_and_says_nothing(cli: Cli, tmp_path: Path, event: str) -> None:
    done = hook(cli, event, {"session_id": "s1", "transcript_path": str(tmp_path / "a.jsonl"), "prompt": "why this?"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (notice,) = (cli.home / "spool" / "new").glob("*.json")
    assert json.loads(notice.read_text())["event"] == event


BAD_INPUT = {
    "no json": "this is no JSON",
    "a list": "[1, 2]",
    "cut off": '{"session_id": "s1", "transcript_',
    "deep": "[" * 200_000,
    "nothing": "",
    "other types": '{"session_id": 7, "transcript_path": {"a": 1}, "cwd": null, "prompt": []}',
    "huge": json.dumps({"session_id": "s1", "prompt": "x" * 9_000_000}),
    "odd text": '{"session_id": "\\ud800", "transcript_path": "/tmp/\\u0000.jsonl", "prompt": "\\udfff"}',
}


@pytest.mark.parametrize("name", list(BAD_INPUT))
@pytest.mark.parametrize("event", ["prompt-submit", "stop"])
def test_bad_input_never_disturbs_the_agent_and_is_told_to_the_operator(cli: Cli, event: str, name: str) -> None:
    done = hook(cli, event, BAD_INPUT[name])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    if name in {"no json", "a list", "cut off", "deep", "huge"}:
        assert event in (cli.home / "hooks.log").read_text()


def test_a_wrong_call_by_hand_says_how_it_is_used(cli: Cli) -> None:
    done = cli.run("hook", "no-such-event")
    assert done.returncode == 2
    assert "usage: knowledge hook" in done.stderr


def test_nothing_outside_the_standard_library_is_imported_on_the_way_of_a_capture(cli: Cli) -> None:
    code = (
        "import sys; from knowledge_system.interfaces.cli import main\n"
        "try: main(['hook', 'stop'])\n"
        "except SystemExit: pass\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(names - set(sys.stdlib_module_names) - {'knowledge_system', '__main__', '__mp_main__'}))\n"
        "print('socket' in sys.modules, 'typing' in sys.modules)\n"
    )
    payload = json.dumps({"session_id": "s1", "transcript_path": "/logs/a.jsonl"})
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {[str(source())]!r}\n{code}"],
        env=cli.variables(), input=payload, text=True, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["[]", "False False"]


def source() -> Path:
    assert knowledge_system.__file__ is not None
    return Path(knowledge_system.__file__).parent.parent


def test_a_session_is_captured_learned_and_recalled_once(cli: Cli, tmp_path: Path) -> None:
    file = transcript(tmp_path / "logs" / "s.json", "old", [FIXED_BUG, CHORE])
    (cli.home / "config.json").write_text(json.dumps({"injection": {"deadline": 5000}}))
    asked = {
        "session_id": "new",
        "cwd": "/src/shop",
        "prompt": "CI fails with TimeoutError: QueuePool limit of size 5 overflow 10 reached in the checkout test",
    }
    with service(cli):
        assert hook(cli, "session-end", {"session_id": "old", "transcript_path": str(file)}).stdout == ""
        assert until(cli, "QueuePool limit")
        cli.json("ingest", file)  # returns when everything read has been learned
        cli.environ["KNOWLEDGE_HOOK_DEADLINE"] = "20"
        first = hook(cli, "prompt-submit", asked)
        second = hook(cli, "prompt-submit", asked)
        why = cli.json("why-injected", "new")["results"]
    assert first.stdout, json.dumps(why)
    shown = json.loads(first.stdout)["hookSpecificOutput"]
    assert shown["hookEventName"] == "UserPromptSubmit"
    assert "with Session(engine)" in shown["additionalContext"]
    assert "not instructions" in shown["additionalContext"]
    assert second.stdout == "", "what a session has seen is not repeated"
    injected = [row for row in why if row["injected"]]
    assert len(injected) == 1
    assert injected[0]["item_id"] in shown["additionalContext"]
    assert "shown-before" in {row["reason"] for row in why}


@pytest.mark.parametrize("how", ["environment", "setting", "project"])
def test_injection_can_be_switched_off(cli: Cli, tmp_path: Path, how: str) -> None:
    rules = {"environment": {}, "setting": {"enabled": False}, "project": {"disabledProjects": ["shop"]}}
    (cli.home / "config.json").write_text(json.dumps({"injection": rules[how]}))
    if how == "environment":
        cli.environ["KNOWLEDGE_INJECT"] = "off"
    cli.json("ingest", transcript(tmp_path / "s.json", "old", [FIXED_BUG, CHORE]))
    cli.environ["KNOWLEDGE_HOOK_DEADLINE"] = "20"
    with service(cli):
        done = hook(cli, "session-start", {"session_id": "new", "cwd": "/src/shop", "source": "startup"})
        why = cli.json("why-injected", "new")["results"]
    assert (done.returncode, done.stdout) == (0, "")
    assert [row["reason"] for row in why] == ([] if how == "environment" else ["switched-off"])


def test_a_hook_cannot_make_the_service_read_what_lies_elsewhere(cli: Cli, tmp_path: Path) -> None:
    outside = transcript(tmp_path.parent / f"{tmp_path.name}-outside" / "s.json", "secret-plans", [FIXED_BUG])
    link = tmp_path / "innocent.json"
    link.symlink_to(outside)
    inside = transcript(tmp_path / "fine.json", "fine", [CHORE])
    with service(cli):
        for path in (outside, link, tmp_path / ".." / outside.parent.name / "s.json", inside):
            hook(cli, "stop", {"session_id": path.name, "transcript_path": str(path)})
        assert until(cli, "commit and push")
        known = cli.json("sessions")["results"]
    assert [one["id"] for one in known] == ["fine"]


def test_exchanges_handed_over_by_a_hook_are_stored_once_and_numbered_on(cli: Cli) -> None:
    def body(text: str) -> dict[str, Any]:
        exchanges = [{"user": "go on", "assistant": text}]
        return {"format": "knowledge-transcript/1", "session": {"id": "g1", "project": "shop"}, "exchanges": exchanges}

    with service(cli):
        for text in ("first the zebra", "then the giraffe"):
            hook(cli, "stop", body(text), "generic")
        assert until(cli, "giraffe")
        emptied(cli.home / "spool")
    listed = cli.json("list", "--kind", "exchanges")["results"]
    assert sorted((one["exchange_index"], one["assistant"]) for one in listed) == [
        (0, "first the zebra"),
        (1, "then the giraffe"),
    ]


def test_many_hooks_at_once_lose_nothing(cli: Cli, tmp_path: Path) -> None:
    files = [transcript(tmp_path / f"{n}.json", f"s{n}", [{**CHORE, "user": f"question {n}"}]) for n in range(20)]
    with service(cli):
        with ThreadPoolExecutor(len(files)) as pool:
            payloads = [{"session_id": file.stem, "transcript_path": str(file)} for file in files]
            done = list(pool.map(lambda payload: hook(cli, "stop", payload), payloads))
        assert {(one.returncode, one.stdout) for one in done} == {(0, "")}
        end = threading.Event()
        timer = threading.Timer(60, end.set)
        timer.start()
        while cli.json("status")["sessions"] < len(files) and not end.is_set():
            pass
        timer.cancel()
        assert cli.json("status")["sessions"] == len(files)
