"""Files in, exchanges out; one module per format."""
