"""Slow work: records, stores, files, and what happens although nobody asks."""
