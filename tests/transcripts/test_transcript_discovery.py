"""Which files are tried, and how projects are named."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from knowledge_system.domain.sessions import SkippedFile
from knowledge_system.transcripts.files import FileTranscriptReader
from knowledge_system.transcripts.projects import Projects


def _found(*paths: Path) -> tuple[list[Path], list[SkippedFile]]:
    outcomes = list(FileTranscriptReader().discover(paths))
    return [one for one in outcomes if isinstance(one, Path)], [one for one in outcomes if isinstance(one, SkippedFile)]


def _touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def test_files_come_sorted_and_only_likely_ones(tmp_path: Path) -> None:
    _touch(
        tmp_path,
        "b.md",
        "a.jsonl",
        "c/x.json",
        "c/y.py",
        "d.png",
        "history",
        ".aider.chat.history.md",
        "e.MARKDOWN",
        "f.txt",
    )
    _touch(tmp_path, ".git/x.md", "node_modules/p/README.md", ".venv/x.json", "g.history")
    files, skipped = _found(tmp_path)
    names = [str(path.relative_to(tmp_path)) for path in files]
    assert names == [
        ".aider.chat.history.md",
        "a.jsonl",
        "b.md",
        "c/x.json",
        "e.MARKDOWN",
        "f.txt",
        "g.history",
        "history",
    ]
    assert not skipped


def test_a_named_file_is_always_tried(tmp_path: Path) -> None:
    _touch(tmp_path, "session.log")
    assert _found(tmp_path / "session.log")[0] == [tmp_path / "session.log"]
    assert _found(tmp_path)[0] == []


def test_a_file_reached_twice_comes_once(tmp_path: Path) -> None:
    _touch(tmp_path, "a/x.md")
    (tmp_path / "a/link.md").symlink_to(tmp_path / "a/x.md")
    assert len(_found(tmp_path, tmp_path / "a", tmp_path / "a/x.md")[0]) == 1


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    _touch(tmp_path, "real/x.md")
    (tmp_path / "start").mkdir()
    (tmp_path / "start/linked").symlink_to(tmp_path / "real")
    (tmp_path / "real/back").symlink_to(tmp_path / "start")
    files, skipped = _found(tmp_path / "start")
    assert [path.name for path in files] == ["x.md"]
    assert [one.reason for one in skipped] == ["is a link to a folder already visited: nothing to do"]


def test_missing_paths_and_dead_links_are_told(tmp_path: Path) -> None:
    (tmp_path / "dead.md").symlink_to(tmp_path / "gone")
    _, skipped = _found(tmp_path / "nowhere", tmp_path)
    assert "does not exist" in skipped[0].reason
    assert "link to nothing" in skipped[1].reason


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions bind neither Windows nor root")
def test_denied_folders_are_told(tmp_path: Path) -> None:
    _touch(tmp_path, "closed/x.md")
    (tmp_path / "closed").chmod(0)
    try:
        assert "check its permissions" in _found(tmp_path)[1][0].reason
    finally:
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
def test_names_that_are_no_text_are_told(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.md"
    try:
        with open(raw, "w") as stream:  # noqa: PTH123 -- a path of bytes
            stream.write("x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert "not UTF-8" in _found(tmp_path)[1][0].reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    assert _found(tmp_path) == ([], [])
    assert "no regular file" in _found(tmp_path / "pipe.md")[1][0].reason


@pytest.mark.parametrize(
    ("cwd", "name"),
    [
        ("/Users/me/code/api", "api"),
        ("/Users/me/code/api/", "api"),
        (r"C:\Users\me\code\api", "api"),
        ("/Users/me/api/.claude/worktrees/fix-login", "api"),
        ("/Users/me/api-worktrees/fix", "api"),
        ("/Users/me/api.worktrees/fix", "api"),
        ("/Users/me/api/.worktrees/1", "api"),
        ("/Users/me/.cursor/worktrees/api/x7f", "api"),
        ("/Users/me/.codex/worktrees/4f2a/api", "api"),
        ("/Users/me/conductor/workspaces/api/lisbon", "api"),
    ],
)
def test_a_project_is_named_by_its_directory(cwd: str, name: str) -> None:
    assert Projects().of(cwd, Path("/nowhere/x.jsonl")) == name


@pytest.mark.parametrize(
    "address", ["git@host:team/api.git", "https://host/team/api", "ssh://git@host:22/team/api.git/"]
)
def test_the_repositorys_address_comes_first(address: str) -> None:
    assert Projects().of("/Users/me/other", Path("x"), address) == "api"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/h/.claude/projects/-Users-me-src-cipher-box/x.jsonl", "cipher-box"),
        ("/h/.claude/projects/-home-me-Projects-api--claude-worktrees-fix/x.jsonl", "api"),
        ("/h/api/.specstory/history/x.md", "api"),
        ("/h/api/docs/chats/x.md", "api"),
        ("/h/.codex/sessions/2026/03/04/rollout.jsonl", "h"),
        ("/x.md", "unknown"),
        ("/logs/x.md", "unknown"),
    ],
)
def test_without_a_directory_the_folders_name_the_project(path: str, name: str) -> None:
    assert Projects().of("", Path(path)) == name


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_work_trees_share_the_name_of_their_repository(tmp_path: Path) -> None:
    main, tree = tmp_path / "api", tmp_path / "elsewhere" / "odd-name"
    main.mkdir()
    _git(main, "init", "-q")
    _git(main, "commit", "-q", "--allow-empty", "-m", "x")
    _git(main, "worktree", "add", "-q", str(tree))
    (tree / "src" / "deep").mkdir(parents=True)
    assert Projects().of(str(main), Path("x")) == "api"
    assert Projects().of(str(tree / "src" / "deep"), Path("x")) == "api"


def test_the_origin_names_the_repository_whatever_the_folder(tmp_path: Path) -> None:
    clone = tmp_path / "my-clone"
    clone.mkdir()
    _git(clone, "init", "-q")
    _git(clone, "remote", "add", "origin", "git@host:team/api.git")
    assert Projects().of(str(clone), Path("x")) == "api"
    assert Projects().of("", clone / "notes" / "x.md") == "notes"
    assert Projects().of("", clone / "docs" / "x.md") == "api"


def test_a_home_under_version_control_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    _git(tmp_path, "init", "-q")
    (tmp_path / "src" / "api").mkdir(parents=True)
    assert Projects().of(str(tmp_path / "src" / "api"), Path("x")) == "api"


def test_a_broken_repository_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / ".git").write_text("gitdir: /nowhere/at/all")
    assert Projects().of(str(tmp_path / "api"), Path("x")) == "api"
    assert Projects().of("/no\0where", Path("/shop/x")) == "no\ufffdwhere"
