"""Python imports this module by its name when it starts, before any other code of a child process runs."""

from knowledge_system.testing import network

network.forbid_as_told()
