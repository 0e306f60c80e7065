"""User turns that no human typed, as the agents write them into the user's mouth."""

from __future__ import annotations

import re
from enum import Enum


class Turn(Enum):
    """What a user turn is."""

    PROMPT = "prompt"
    NOISE = "noise"
    INTERRUPTION = "interruption"
    """Marks the exchange before it as interrupted."""
    CONTEXT = "context"
    """A compaction summary or a message of another agent: worth a note, no prompt."""


_INTERRUPTED = "[Request interrupted by user"
_CONTEXT = (
    "This session is being continued from a previous conversation",
    "<teammate-message",
    "<agent-message",
    "<task-notification>",
)
_NOISE = (
    "<local-command-stdout>",
    "<local-command-stderr>",
    "<local-command-caveat>",
    "Caveat: The messages below",
    "<bash-input>",
    "<bash-stdout>",
    "<bash-stderr>",
    "<system-reminder>",
    "<user-prompt-submit-hook>",
    "<environment_context>",
    "<user_instructions>",
    "<turn_aborted>",
    "# AGENTS.md instructions for",
)
_NAME = re.compile(r"<command-name>\s*/?([^<\s]+)\s*</command-name>")
_ARGUMENTS = re.compile(r"<command-args>(.*?)</command-args>", re.DOTALL)
_BUILT_IN = {
    "add-dir", "agents", "background", "bashes", "btw", "bug", "chrome", "clear", "color", "compact", "config",
    "context", "copy", "cost", "desktop", "diff", "doctor", "effort", "exit", "export", "extra-usage", "fast",
    "feedback", "files", "fork", "help", "hooks", "ide", "install-github-app", "install-slack-app", "keybindings",
    "login", "logout", "mcp", "memory", "migrate-installer", "mobile", "model", "output-style", "passes",
    "permissions", "plan", "plugin", "plugins", "privacy-settings", "quit", "rate-limit-options", "release-notes",
    "reload-plugins", "remote-control", "remote-env", "rename", "reset", "resume", "rewind", "sandbox", "settings",
    "skills", "stats", "status", "stickers", "tag", "tasks", "teleport", "terminal-setup", "theme", "todos",
    "upgrade", "usage", "vim", "voice",
}  # fmt: skip
"""Slash commands of the agent itself; those that ask the model for something (`/init`, `/review`) are prompts."""


_EDITOR_CONTEXT = re.compile(r"^\s*<(ide_opened_file|ide_selection)>.*?</\1>\s*", re.DOTALL)


def without_editor_context(text: str) -> str:
    """Return a prompt without the blocks in which an editor says what is open and selected."""
    while text.lstrip().startswith("<ide_") and (found := _EDITOR_CONTEXT.match(text)):
        text = text[found.end() :]
    return text


def kind_of(text: str) -> Turn:
    """Return what a user turn with this text is."""
    start = text.lstrip()
    if start.startswith(_INTERRUPTED):
        return Turn.INTERRUPTION
    if start.startswith(_CONTEXT):
        return Turn.NOISE if start.startswith("<task-notification>") else Turn.CONTEXT
    if start.startswith(_NOISE):
        return Turn.NOISE
    command = _slash_name(start)
    return Turn.NOISE if command and command.lower() in _BUILT_IN else Turn.PROMPT


def as_typed(text: str) -> str:
    """Return a prompt as the human typed it: a slash command's record becomes `/name arguments`."""
    name = _slash_name(text.lstrip())
    if not name:
        return text
    arguments = _ARGUMENTS.search(text)
    return f"/{name} {arguments[1].strip() if arguments else ''}".strip()


def _slash_name(start: str) -> str:
    found = _NAME.search(start[:2000]) if start.startswith(("<command-name>", "<command-message>")) else None
    return found[1] if found else ""
