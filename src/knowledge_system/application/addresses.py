"""Names by which a running service and the commands beside it know each other."""

from __future__ import annotations

SERVICE = "serve"
"""Purpose under which a service holds the data directory."""
LEASE = "mcp"
"""Purpose of a process that holds the directory only to have it at hand, and gives it back when asked."""
CALL_PATH = "/internal/call/"
"""Path of the private door; the verb follows."""
VERSION_HEADER = "x-knowledge-version"
