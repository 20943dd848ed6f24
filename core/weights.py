"""Which loss network a setting means, without loading it: what API and command line check before any work starts."""

from pathlib import Path

from core.files import file_sha256

BUNDLED = Path(__file__).parent.parent / "models" / "vgg16.safetensors"
BUNDLED_SHA256 = "8e50c15234384fd2d47847fce10cac441f7b447f6d3988a68f84622352d48c18"


def loss_network_sha256(source: str) -> str | None:
    """The hash of `bundled` or of a file; None for `imagenet`, and for a file that is missing: loading tells."""
    if source == "bundled":
        return BUNDLED_SHA256
    path = Path(source)
    return file_sha256(path) if path.is_file() else None
