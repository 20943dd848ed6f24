"""Pictures, networks, losses and the engine. Knows no web and no queue."""
