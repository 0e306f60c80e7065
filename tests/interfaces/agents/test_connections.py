"""Connecting an agent changes what it must and nothing else; disconnecting gives everything back."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.interfaces.conftest import Cli

from knowledge_system.agents.profiles import PROFILES

AGENTS = list(PROFILES)
FOREIGN = {
    "claude-code": (
        ".claude/settings.json",
        {"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "say done"}]}]}},
    ),
    "codex": (".codex/hooks.json", {"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "say done"}]}]}}),
    "cursor": (".cursor/mcp.json", {"mcpServers": {"other": {"command": "other"}}}),
    "copilot": (".copilot/mcp-config.json", {"mcpServers": {"other": {"command": "other"}}}),
    "gemini": (".gemini/settings.json", {"theme": "dark", "hooks": {"AfterAgent": [{"hooks": [{"command": "x"}]}]}}),
    "opencode": (".config/opencode/opencode.json", {"theme": "dark", "mcp": {"other": {"type": "local"}}}),
    "generic": (".mcp.json", {"mcpServers": {"other": {"command": "other"}}}),
}


@pytest.fixture
def user(cli: Cli) -> Path:
    """The scratch HOME of the command line."""
    return cli.home.parent


def files(folder: Path, home: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and home not in path.parents)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def foreign(user: Path, agent: str) -> tuple[Path, dict[str, Any]]:
    name, content = FOREIGN[agent]
    path = user / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4))
    return path, content


@pytest.mark.parametrize("agent", AGENTS)
def test_connecting_is_idempotent_and_disconnecting_leaves_no_trace(cli: Cli, user: Path, agent: str) -> None:
    before = files(user, cli.home)
    first = cli.json("connect", agent)
    after = files(user, cli.home)
    assert sorted(first["changed"]) == sorted(str(user / name) for name in after)
    assert cli.json("connect", agent)["changed"] == []
    assert files(user, cli.home) == after
    cli.json("disconnect", agent)
    assert files(user, cli.home) == before == {}


@pytest.mark.parametrize("agent", AGENTS)
def test_what_others_put_there_stays_and_comes_back_to_the_letter(cli: Cli, user: Path, agent: str) -> None:
    path, content = foreign(user, agent)
    original = path.read_bytes()
    cli.json("connect", agent)
    changed = json.loads(path.read_text())
    assert "knowledge" in json.dumps(changed)
    assert contains(changed, content)
    assert path.read_text().startswith('{\n    "'), "the file keeps its indentation"
    assert path.with_name(path.name + ".knowledge-backup").read_bytes() == original
    cli.json("disconnect", agent)
    assert files(user, cli.home) == {str(path.relative_to(user)): original}


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    return all(one in whole for one in part) if isinstance(part, list) else bool(whole == part)


@pytest.mark.parametrize("agent", AGENTS)
def test_changes_made_since_survive_a_disconnect(cli: Cli, user: Path, agent: str) -> None:
    path, content = foreign(user, agent)
    cli.json("connect", agent)
    edited = json.loads(path.read_text())
    edited["added"] = {"by": "somebody"}
    path.write_text(json.dumps(edited))
    cli.json("disconnect", agent)
    assert json.loads(path.read_text()) == {**content, "added": {"by": "somebody"}}


def test_hooks_name_an_existing_program_and_the_home_in_use(cli: Cli, user: Path) -> None:
    cli.json("connect", "claude-code")
    settings = json.loads((user / ".claude/settings.json").read_text())
    commands = [hook["command"] for groups in settings["hooks"].values() for group in groups for hook in group["hooks"]]
    assert len(commands) == 6
    for command in commands:
        program, word, _, flag, agent, home_flag, home = command.split()
        assert Path(program).is_file()
        assert (word, flag, agent, home_flag, home) == ("hook", "--agent", "claude-code", "--home", str(cli.home))
    server = json.loads((user / ".claude.json").read_text())["mcpServers"]["knowledge"]
    assert server["args"] == ["--home", str(cli.home), "mcp"]


def test_a_toml_file_keeps_its_comments_and_order(cli: Cli, user: Path) -> None:
    path = user / ".codex" / "config.toml"
    path.parent.mkdir()
    original = (
        '# mine\nmodel = "gpt"  # favourite\n\n[features]\nother = true\n\n[mcp_servers.docs]\ncommand = "docs"\n'
    )
    path.write_text(original)
    cli.json("connect", "codex")
    text = path.read_text()
    parsed = tomllib.loads(text)
    assert parsed["features"] == {"other": True}
    assert set(parsed["mcp_servers"]) == {"docs", "knowledge"}
    assert "# mine" in text
    assert "# favourite" in text
    cli.json("disconnect", "codex")
    assert path.read_text() == original


def test_a_project_is_connected_apart_from_the_user(cli: Cli, user: Path, tmp_path: Path) -> None:
    project = tmp_path / "src" / "shop"
    project.mkdir(parents=True)
    cli.json("connect", "claude-code", "--scope", "project", "--project", project)
    assert (project / ".claude" / "settings.json").exists()
    assert (project / ".mcp.json").exists()
    assert not (user / ".claude").exists()
    (row,) = [one for one in cli.json("connect", "--list")["agents"] if one["agent"] == "claude-code"]
    assert [(one["scope"], one["project"], one["state"]) for one in row["connections"]] == [
        ("project", str(project), "connected")
    ]
    cli.json("disconnect", "claude-code", "--scope", "project", "--project", project)
    assert list(project.iterdir()) == []


def test_drift_is_shown_and_repaired_by_connecting_again(cli: Cli, user: Path) -> None:
    cli.json("connect", "gemini")
    path = user / ".gemini" / "settings.json"
    tree = json.loads(path.read_text())
    del tree["hooks"]["AfterAgent"]
    path.write_text(json.dumps(tree))
    (row,) = [one for one in cli.json("connect", "--list")["agents"] if one["agent"] == "gemini"]
    assert row["connections"][0]["state"] == "drifted"
    assert cli.json("connect", "gemini")["changed"] == [str(path)]
    (row,) = [one for one in cli.json("connect", "--list")["agents"] if one["agent"] == "gemini"]
    assert row["connections"][0]["state"] == "connected"


def test_a_dry_run_shows_the_change_and_makes_none(cli: Cli, user: Path) -> None:
    shown = cli.json("connect", "claude-code", "--dry-run")
    assert "+" in shown["diff"][0]
    assert files(user, cli.home) == {}
    cli.json("connect", "claude-code")
    assert cli.json("connect", "claude-code", "--dry-run")["diff"] == []
    before = files(user, cli.home)
    assert cli.json("disconnect", "claude-code", "--dry-run")["changed"]
    assert files(user, cli.home) == before


BROKEN = {"comments": '{\n  // mine\n  "a": 1\n}', "a list": "[]", "cut off": '{"hooks": {', "odd": '{"hooks": []}'}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_file_that_cannot_be_understood_is_left_alone_and_nothing_else_is_written(
    cli: Cli, user: Path, name: str
) -> None:
    path = user / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_text(BROKEN[name])
    done = cli.run("connect", "claude-code")
    assert done.returncode == 2
    assert "left alone" in done.stderr
    assert files(user, cli.home) == {".claude/settings.json": BROKEN[name].encode()}


def test_unknown_agents_and_what_is_not_connected_are_told(cli: Cli) -> None:
    assert cli.run("connect", "emacs").returncode == 2
    assert cli.run("connect").returncode == 2
    assert cli.run("disconnect", "codex").returncode == 3


def test_a_linked_settings_file_stays_a_link(cli: Cli, user: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "settings.json"
    real.parent.mkdir()
    real.write_text("{}\n")
    (user / ".claude").mkdir()
    (user / ".claude" / "settings.json").symlink_to(real)
    cli.json("connect", "claude-code")
    assert (user / ".claude" / "settings.json").is_symlink()
    assert "knowledge" in real.read_text()
    cli.json("disconnect", "claude-code")
    assert real.read_text() == "{}\n"
