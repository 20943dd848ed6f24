"""The example of each network: the cat, painted small when it is first asked for, and kept on disk."""

from hashlib import sha256
from pathlib import Path

from impasto.core.files import FileCache, file_sha256, write_bytes
from impasto.core.paint_params import PaintParams
from impasto.core.pictures.codec import decode, encode
from impasto.core.stylize.engine import FORM, Engine
from impasto.core.stylize.stylize import paint

CAT = Path(__file__).parents[1] / "web/cat.jpg"
"""Chelsea, by Stéfan van der Walt, CC0."""
PARAMS = PaintParams(style="any", max_side=440, format="webp")
QUALITY = 78


class Examples:
    """A WebP for each checkpoint, under the hash of the checkpoint and of the cat."""

    def __init__(self, engine: Engine, cache: Path) -> None:
        self.engine, self.folder = engine, cache / "examples"
        self._cat = CAT.read_bytes()
        self.key = FileCache(self._hash)
        """The key of a checkpoint's example. It changes with whatever changes the picture."""

    def _hash(self, checkpoint: Path) -> str:
        params = _params(checkpoint).model_dump_json().encode()
        parts = file_sha256(checkpoint).encode(), self._cat, params, bytes([QUALITY, FORM])
        return sha256(b"\0".join(parts)).hexdigest()[:32]

    def kept(self, key: str) -> bytes | None:
        """The picture, if it was made before."""
        path = self._path(key)
        return path.read_bytes() if path.exists() else None

    def make(self, checkpoint: Path, key: str) -> bytes:
        """Paint it, unless somebody has by now. Raises what the engine raises."""
        if kept := self.kept(key):
            return kept
        painting = paint(self.engine.painter(checkpoint), decode(self._cat), _params(checkpoint))
        data = encode(painting, "webp", quality=QUALITY)
        write_bytes(self._path(key), data)
        return data

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.webp"


def _params(checkpoint: Path) -> PaintParams:
    """`PARAMS` for the network of a checkpoint, which its path names."""
    return PARAMS.model_copy(update={"arch": checkpoint.parts[-3]})
