"""Schema migrations, run by `upgrade.migrate`."""
