"""Painting at once: a picture through a compiled network."""
