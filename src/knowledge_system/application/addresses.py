"""Names by which a running service and the commands beside it know each other."""

from __future__ import annotations

SERVICE = "serve"
"""Purpose under which a service holds the data directory."""
CALL_PATH = "/internal/call/"
"""Path of the private door; the verb follows."""
VERSION_HEADER = "x-knowledge-version"
