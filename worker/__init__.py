"""Slow work: training. Knows core, and nothing of the web."""
