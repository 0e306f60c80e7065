"""What may leave this machine: path and pattern layers, redaction at the door."""
