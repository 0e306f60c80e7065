"""A folder for `PYTHONPATH`: child processes that find it stay on this machine (see `testing.network`)."""
