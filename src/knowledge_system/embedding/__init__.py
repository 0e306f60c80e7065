"""Local embedding models, batching, and where their weights come from."""
