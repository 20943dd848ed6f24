"""Which loss network a setting means, without loading it: what API and command line check before any work starts."""

from functools import cache
from pathlib import Path

from core.files import file_sha256

BUNDLED = Path(__file__).parent.parent / "models" / "vgg16.safetensors"
BUNDLED_SHA256 = "8e50c15234384fd2d47847fce10cac441f7b447f6d3988a68f84622352d48c18"


IMAGENET_SHA256 = "88682ab5"  # its beginning, which torchvision's file has in its name


@cache
def loss_network_sha256(source: str) -> str | None:
    """The hash of a source, or its beginning; None for a file that is missing: loading tells."""
    if source in ("bundled", "imagenet"):
        return BUNDLED_SHA256 if source == "bundled" else IMAGENET_SHA256
    path = Path(source)
    return file_sha256(path) if path.is_file() else None
