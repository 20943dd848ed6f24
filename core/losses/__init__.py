"""The losses that painting makes small, and the targets of a style: Gram matrices and colours."""
