"""Slow work: jobs and training. It knows core, and nothing of the web."""
