"""Exchanges become items: ingest, judge, type, title, confidence."""
