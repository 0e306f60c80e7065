"""Doors: parse, call the application, print."""
