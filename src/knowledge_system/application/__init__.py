"""Composition root and the verbs of the system: Settings in, KnowledgeSystem out."""
