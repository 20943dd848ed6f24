"""Pictures: bytes in and out, and the process in which strangers' files are decoded."""
