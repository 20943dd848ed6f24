"""Running one job: a child process, its messages, its signs of life."""
