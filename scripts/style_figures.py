"""Print the figures of the style guide and fail where a law is broken."""

from __future__ import annotations

import ast
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES = 400
FUNCTION_LINES = 60
FUNCTION_P95 = 35
FUNCTION_MEDIAN = 8
POSITIONAL = 5
MOCKS_PER_TEST = 0.05
CLI = ROOT / "src" / "knowledge_system" / "interfaces" / "cli"
"""A command's options are its parameters."""
FORBIDDEN_NAMES = {"utils", "helpers", "common", "core", "base", "misc", "manager"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Figures:
    """What was measured, and what breaks a law."""

    modules: list[int] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    annotated: int = 0
    parameters: int = 0
    broken: list[str] = field(default_factory=list)


def code_lines(path: Path) -> int:
    """Return the lines of a file that are neither blank nor comments."""
    return sum(1 for line in path.read_text().splitlines() if line.strip() and not line.strip().startswith("#"))


def body_lines(function: Function) -> int:
    """Return the lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def measure_function(path: Path, function: Function, figures: Figures) -> None:
    """Add one function to the figures."""
    lines = body_lines(function)
    figures.functions.append(lines)
    place = f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
    if lines > FUNCTION_LINES:
        figures.broken.append(f"{place}: {lines} lines")
    knowingly = "noqa: PLR0917 --" in path.read_text().splitlines()[function.lineno - 1]
    positional = [a for a in [*function.args.posonlyargs, *function.args.args] if a.arg not in {"self", "cls"}]
    if len(positional) > POSITIONAL and CLI not in path.parents and not knowingly:
        figures.broken.append(f"{place}: {len(positional)} positional parameters")
    everything = [*positional, *function.args.kwonlyargs]
    figures.parameters += len(everything) + 1
    figures.annotated += sum(a.annotation is not None for a in everything) + (function.returns is not None)


def measure(path: Path, figures: Figures) -> None:
    """Add one module to the figures."""
    lines = path.read_text().count("\n")
    figures.modules.append(lines)
    if lines > MODULE_LINES:
        figures.broken.append(f"{path.relative_to(ROOT)}: {lines} lines")
    if path.stem in FORBIDDEN_NAMES:
        figures.broken.append(f"{path.relative_to(ROOT)}: forbidden module name")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            measure_function(path, node, figures)


def percentile(values: list[int], share: float) -> int:
    """Return the value below which `share` of `values` lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def mocks_and_tests(tests: list[Path]) -> tuple[int, int]:
    """Return how many mocks and how many tests the files hold."""
    text = "\n".join(path.read_text() for path in tests)
    names = ("mock.patch", "MagicMock(", "AsyncMock(", "Mock(", "monkeypatch.setattr(")
    return sum(text.count(name) for name in names), text.count("\ndef test_") + text.count(
        "\nasync def test_"
    ) + text.count("    def test_")


def main() -> None:
    """Print the figures; exit 1 when a law is broken."""
    figures = Figures()
    sources = sorted((ROOT / "src").rglob("*.py"))
    for path in sources:
        measure(path, figures)
    tests = sorted((ROOT / "tests").rglob("*.py"))
    mocks, count = mocks_and_tests(tests)
    source_lines, test_lines = sum(map(code_lines, sources)), sum(map(code_lines, tests))
    median, p95 = statistics.median(figures.functions), percentile(figures.functions, 0.95)
    print(
        f"modules    {len(figures.modules)}: median {statistics.median(figures.modules):.0f}, "
        f"p95 {percentile(figures.modules, 0.95)}, longest {max(figures.modules)} lines"
    )
    print(
        f"functions  {len(figures.functions)}: median {median:.0f}, p95 {p95}, longest {max(figures.functions)} lines"
    )
    print(f"annotated  {figures.annotated / figures.parameters:.1%}")
    print(f"mocks      {mocks} in {count} tests ({mocks / max(count, 1):.3f} per test)")
    print(f"tests:code {test_lines}:{source_lines} = {test_lines / source_lines:.2f}")
    if median > FUNCTION_MEDIAN or p95 > FUNCTION_P95:
        figures.broken.append(f"functions are too long: median {median}, p95 {p95}")
    if figures.annotated < figures.parameters:
        figures.broken.append("not everything is annotated")
    if mocks > MOCKS_PER_TEST * count:
        figures.broken.append(f"{mocks} mocks in {count} tests")
    if figures.broken:
        sys.exit("\n".join(figures.broken))


if __name__ == "__main__":
    main()
