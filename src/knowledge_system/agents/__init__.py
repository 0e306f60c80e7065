"""Coding agents: where they keep their configuration and transcripts, and what connects them to this system."""
