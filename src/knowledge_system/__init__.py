"""Continuous-learning knowledge system for people who work with coding agents."""

__version__ = "0.1.0"
