"""Keeps knowledge right over time: deduplicate, reinforce, supersede, forget."""
