"""The house as a whole: start-up stays light, documents say what the code says, the README's commands run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.interfaces.conftest import ROOT, Cli

HEAVY = {
    "numpy",
    "onnxruntime",
    "tokenizers",
    "sqlalchemy",
    "alembic",
    "qdrant_edge",
    "pydantic",
    "rich",
    "structlog",
    "asyncio",
}


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from knowledge_system.interfaces.cli.app import run\n"
        "run(['--version'])\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    loaded = set(re.findall(r"'(\w+)'", done.stdout))
    assert not loaded & (HEAVY - {"asyncio"})


def test_every_command_answers_help(cli: Cli) -> None:
    listed = re.findall(
        r"^## `knowledge ([a-z -]+?)(?: [A-Z\[].*)?`$", (ROOT / "docs/reference/commands.md").read_text(), re.MULTILINE
    )
    assert len(listed) >= 20
    for command in listed:
        assert cli.run(*command.split(), "--help").returncode == 0, command


def test_every_error_class_is_raised_somewhere_and_documented() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    page = (ROOT / "docs/reference/errors.md").read_text()
    for name in re.findall(
        r"^class (\w+)\(\w*Error|^class (\w+)\((?:KnowledgeError|DependencyUnavailable|IntegrityFailure)",
        (ROOT / "src/knowledge_system/domain/errors.py").read_text(),
        re.MULTILINE,
    ):
        error = next(filter(None, name))
        if error == "KnowledgeError":
            continue
        assert len(re.findall(rf"\b{error}\(", source)) >= 2, f"{error} is never raised"
    assert "newer-schema" in page


def readme_blocks() -> list[str]:
    text = (ROOT / "README.md").read_text()
    return re.findall(r"```bash\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_the_commands_of_the_readme_run(cli: Cli, tmp_path: Path) -> None:
    """Every `knowledge …` line of a bash block runs and succeeds, in order, in a copy of the examples' surroundings."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    commands = [
        line.removeprefix(".venv/bin/")
        for block in readme_blocks()
        for line in block.splitlines()
        if line.removeprefix(".venv/bin/").startswith("knowledge ")
    ]
    assert commands
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command.replace("knowledge ", f"{Path(sys.executable).with_name('knowledge')} ", 1)],
            env=cli.variables(), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stderr}"
