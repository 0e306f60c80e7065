#!/usr/bin/env bash
# The main job on the sample sessions: ingest, then a question. Works in a directory of its own.
set -euo pipefail
knowledge=${1:-knowledge}
here=$(cd "$(dirname "$0")/.." && pwd)
KNOWLEDGE_HOME=${KNOWLEDGE_HOME:-$here/.knowledge}
export KNOWLEDGE_HOME

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
say() { printf '\n%s$ knowledge %s%s\n' "$bold" "$*" "$plain"; }
say ingest examples/
"$knowledge" ingest "$here/examples"
say 'search "why did the test pass locally but fail in CI?"'
"$knowledge" search "why did the test pass locally but fail in CI?" --limit 3
say status
"$knowledge" status
printf '\nTry your own: %s ingest ~/.claude/projects\n' "$knowledge"
