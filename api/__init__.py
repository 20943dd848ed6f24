"""The service over HTTP. Knows core, and nothing of the worker."""
