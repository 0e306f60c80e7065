"""One engine for every model call: budgeted, private, and still up when providers are not."""
