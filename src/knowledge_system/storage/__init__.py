"""The truth in SQL, its migrations, and the derived vector index."""
