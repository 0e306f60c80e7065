"""A question becomes ranked, explained results: passages, gather, fuse, rank."""
