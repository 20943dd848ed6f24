"""The middleware that every request passes: access, limits, headers, the log."""
