"""Status, doctor, export and import."""
