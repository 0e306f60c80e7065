"""Options of the verbs, for the doors that fill them in."""

from __future__ import annotations

from knowledge_system.extraction.ingestion import IngestOptions

__all__ = ["IngestOptions"]
