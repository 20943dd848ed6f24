"""Timings, as ratios measured side by side: `make bench`. Leave the machine alone while it runs."""
