"""Processes of our own that a service starts, talks to and replaces: what is the same for each of them."""
