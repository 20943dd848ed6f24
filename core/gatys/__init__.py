"""Painting slowly: the pixels of one picture, optimised (Algorithm 1)."""
