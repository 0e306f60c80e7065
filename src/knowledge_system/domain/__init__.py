"""Nouns and ports. Standard library only; everything else depends on this package and it on nothing."""
