"""The commands of the command line. Their work is beside them, or in `impasto.training` where it needs torch."""
