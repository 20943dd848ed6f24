"""The command line, and the launcher: the only package that may import all the others."""
