"""The short name of the project a session was about.

It is the repository's: the last part of its origin's address, else the name of its main working tree, so that work
trees and agents that record different things still agree. Where neither is at hand, the working directory's last part,
and at last the folder the transcript lies in.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from knowledge_system.transcripts.capping import clean

_WORKTREE = re.compile(
    r"""^(?P<repo>.*?)(?:
        [/\\]\.claude[/\\]worktrees[/\\].*      # Claude Code
      | [/\\]\.?worktrees[/\\].*                # folders of work trees inside the repository
      | [-_.]worktrees?[/\\].*                  # folders of work trees beside the repository
    )$""",
    re.VERBOSE | re.IGNORECASE,
)
_HOSTED = re.compile(
    r"""(?:
        [/\\]\.cursor[/\\]worktrees[/\\](?P<cursor>[^/\\]+)      # ~/.cursor/worktrees/REPOSITORY/ID
      | [/\\]\.codex[/\\]worktrees[/\\][^/\\]+[/\\](?P<codex>[^/\\]+)  # ~/.codex/worktrees/ID/REPOSITORY
      | [/\\]conductor[/\\](?:workspaces|repo)[/\\](?P<conductor>[^/\\]+)  # one of the parallel runners
    )""",
    re.VERBOSE,
)
_HOME = re.compile(r"^-(?:Users|home)-[^-]+-")
_SHELVES = re.compile(
    r"^(?:documents|desktop|code|source|src|projects?|proj|work|workspaces?|repos?|repositories|git|github|gitlab|dev)-",
    re.IGNORECASE,
)
_CLAUDE_WORKTREE = re.compile(r"--claude-worktrees-.*$")
_GENERIC = {
    "", "chat", "chats", "conversation", "conversations", "doc", "docs", "download", "downloads", "export", "exports",
    "history", "log", "logs", "rollouts", "session", "sessions", "specstory", ".specstory", "transcript", "transcripts",
    "projects", ".claude", ".codex", ".aider", ".cursor", "ai", "archive", "data", "tmp",
}  # fmt: skip
_NUMBERS = re.compile(r"^[\d_.-]+$")
_LONGEST = 80
UNKNOWN = "unknown"


class Projects:
    """Names projects and remembers, for one file, what the file system answered."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, cwd: str, transcript: Path, repository: str = "") -> str:
        """Return the project's name; never empty. `repository` is the address of its origin where the format has it."""
        return _named(_last_part(repository)) or self.of_cwd(cwd) or self._of_folder(transcript)

    def of_cwd(self, cwd: str) -> str:
        """Return the name for a working directory, empty when there is none."""
        if cwd not in self._known:
            self._known[cwd] = (_of_tree(cwd) or _of_path(cwd)) if cwd.strip("/\\. ") else ""
        return self._known[cwd]

    def _of_folder(self, transcript: Path) -> str:
        key = f"\0{transcript}"
        if key not in self._known:
            self._known[key] = of_folder(transcript)
        return self._known[key]


def of_folder(transcript: Path) -> str:
    """Return the name that the folders above a transcript suggest."""
    for folder in Path(transcript).absolute().parents:
        if folder.name == ".specstory":
            return _of_repository(folder.parent) or _named(folder.parent.name) or UNKNOWN
        name = _decoded(folder.name)
        if name.lower() not in _GENERIC and not _NUMBERS.match(name):
            return _of_repository(folder) or _named(name) or UNKNOWN
    return UNKNOWN


def _of_path(cwd: str) -> str:
    if hosted := _HOSTED.search(cwd):
        return _named(next(filter(None, hosted.groups()), ""))
    if tree := _WORKTREE.match(cwd):
        cwd = tree["repo"]
    return _named(_last_part(cwd))


def _of_tree(cwd: str) -> str:
    """Return the name of the repository that holds `cwd`, when that directory is on this machine."""
    try:
        folder = Path(cwd)
        if not folder.is_absolute() or not folder.is_dir():
            return ""
    except (OSError, ValueError):
        return ""
    above = (parent for parent in folder.parents if parent != _home())  # a home under version control is no project
    return next(filter(None, map(_of_repository, (folder, *above))), "")


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None


def _of_repository(folder: Path) -> str:
    """Return the name of the repository whose root `folder` is, else an empty one."""
    git = folder / ".git"
    try:
        if git.is_file():
            git = _main_git(git)
        if not git.is_dir():
            return ""
        return _named(_last_part(_origin(git)) or _last_part(_of_worktree_parent(git.parent)))
    except (OSError, ValueError):
        return ""


def _of_worktree_parent(folder: Path) -> str:
    tree = _WORKTREE.match(str(folder))
    return tree["repo"] if tree else str(folder)


def _main_git(pointer: Path) -> Path:
    """Return the git directory of the main working tree to which a work tree's `.git` file points."""
    target = pointer.read_text("utf-8", "replace").partition("gitdir:")[2].strip()
    git = (pointer.parent / target).resolve()
    return git.parent.parent if git.parent.name == "worktrees" else git


def _origin(git: Path) -> str:
    """Return the address of `origin` out of a repository's configuration, else an empty one."""
    config = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    try:
        config.read_string((git / "config").read_text("utf-8", "replace"))
        return config.get('remote "origin"', "url", fallback="") or ""
    except (configparser.Error, OSError):
        return ""


def _decoded(name: str) -> str:
    """Return the project part of Claude Code's folder name, in which `/` and `.` became `-`; other names unchanged."""
    if not name.startswith("-"):
        return name
    name = _HOME.sub("", _CLAUDE_WORKTREE.sub("", name)) if _HOME.match(name) else name.lstrip("-")
    while shelf := _SHELVES.match(name):
        name = name[shelf.end() :]
    return name


def _last_part(path: str) -> str:
    parts = [part for part in re.split(r"[/\\:]", path.strip()) if part not in {"", ".", ".."}]
    return parts[-1].removesuffix(".git") if parts else ""


def _named(name: str) -> str:
    return clean(" ".join(name.split()))[:_LONGEST]
