"""The libraries behind the local model tell nobody that it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_the_runtime_of_the_model_leaves_nothing_to_be_sent(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    command = [sys.executable, "-c", "import knowledge_system.embedding.inference"]
    subprocess.run(command, env={**kept, "HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []
