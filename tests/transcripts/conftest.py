"""Fixtures of the transcript tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.transcripts.samples import Result, read_file

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def examples() -> Path:
    return EXAMPLES


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Result]:
    """Write a text or bytes to a file and read it."""

    def write_and_read(content: str | bytes, name: str = "shop/session") -> Result:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_file(path)

    return write_and_read
