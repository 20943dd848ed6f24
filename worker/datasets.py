"""Photographs to train on, prepared as the report did: short side resized, centre crop, 0..255.

A batch is a function of the seed and its number alone, so a run that stops goes on with the very pictures that
an unbroken one would have seen.
"""

import shutil
import zlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tarfile import TarError
from tempfile import mkdtemp
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from core.errors import BadParameter, BadPicture, NotFound

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}

EVEN = 12.0
"""A random crop whose pixels deviate by less is drawn again, `TRIES` times at most: InstanceNorm blows up its noise."""
TRIES = 5

HELD_OUT = frozenset(
    [
        "139",
        "285",
        "632",
        "724",
        "776",
        "785",
        "802",
        "872",
        "885",
        "1000",
        "1268",
        "1296",
        "1353",
        "1425",
        "1490",
        "1503",
        "1532",
        "1584",
        "1675",
        "1761",
    ]
)
"""COCO's numbers of the twenty photographs set aside for evaluation; val2014 has them under the same numbers."""


def open_dataset(source: Path, cache: Path, on_unpack: Callable[[str], None] | None = None) -> list[Path]:
    """The photographs in a folder (searched through) or an archive (.zip, .tar.gz, .tar), sorted by path.

    TinyImageNet's validation and test pictures and the photographs set aside for evaluation are left out. An archive
    is unpacked once, into `cache`. Raises NotFound where there is nothing, BadParameter for an archive that
    is none or a source without pictures.
    """
    if source.is_file():
        source = _unpack(source, cache, on_unpack)
    if not source.is_dir():
        raise NotFound(f"No folder or archive of photographs at {source}.")
    tiny = (source / "wnids.txt").exists() or any(source.glob("*/wnids.txt"))
    paths = [
        path
        for path in sorted(source.rglob("train/*/images/*" if tiny else "*"))
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not is_held_out(path)
    ]
    if not paths:
        raise BadParameter(f"No photographs ({', '.join(sorted(SUFFIXES))}) in {source}.")
    return paths


def is_held_out(path: Path) -> bool:
    """Whether this is one of COCO's twenty that nothing is trained on."""
    number = path.stem.rsplit("_", 1)[-1]
    return len(number) == 12 and number.lstrip("0") in HELD_OUT


def _unpack(archive: Path, cache: Path, on_unpack: Callable[[str], None] | None) -> Path:
    """The folder that `archive` unpacks to: kept under its name, size and time of change, complete or absent."""
    stat = archive.stat()
    key = sha256(f"{archive.resolve()}{stat.st_size}{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache / f"{archive.name.split('.')[0]}-{key}"
    if folder.exists():
        return folder
    if on_unpack:
        on_unpack(f"unpacking {archive.name} into {folder}")
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(mkdtemp(dir=cache, prefix=".unpacking-"))
    try:
        if archive.suffix == ".zip":
            shutil.unpack_archive(archive, partial)
        else:
            shutil.unpack_archive(archive, partial, filter="data")
        partial.rename(folder)
    except (shutil.ReadError, TarError, BadZipFile, zlib.error, OSError, EOFError) as error:
        raise BadParameter(
            f"{archive} cannot be unpacked: {error}. It takes .zip, .tar.gz and .tar archives."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


class Batches:
    """`batches(k, size, batch)` is the k-th batch (batch, 3, size, size), float32 RGB 0..255.

    Every photograph comes once an epoch, in an order shuffled anew each time. With `augment` its short side is resized
    to between 1 and 1.5 times `scale` and a random square is cut out, flipped or not; without, the short
    side is resized to `scale` and the middle is cut out (the report's preparation, where scale = size).
    """

    def __init__(self, paths: list[Path], scale: int, seed: int, augment: bool) -> None:
        self.paths, self.scale, self.seed, self.augment = paths, scale, seed, augment

    def __len__(self) -> int:
        return len(self.paths)

    def __call__(self, first: int, size: int, batch: int) -> Tensor:
        """Pictures `first` to `first + batch` of the endless sequence of epochs."""
        pictures = [self._picture(first + k, size) for k in range(batch)]
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()  # (B, 3, size, size)

    def middle(self, index: int, size: int) -> Tensor:
        """The middle of one photograph (1, 3, size, size), whatever `augment` says."""
        with Image.open(self.paths[index]) as image:
            square = np.array(_cut(image.convert("RGB"), size, size, None))
        return torch.from_numpy(square).permute(2, 0, 1)[None].float()

    def _picture(self, index: int, size: int) -> np.ndarray:
        epoch, place = divmod(index, len(self.paths))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.paths))
        path = self.paths[order[place]]
        chance = np.random.default_rng([self.seed, 1, index])
        scale = max(size, round(self.scale * chance.uniform(1, 1.5))) if self.augment else max(size, self.scale)
        try:
            with Image.open(path) as image:
                image.draft("RGB", (2 * scale, 2 * scale))
                square = _cut(image.convert("RGB"), scale, size, chance if self.augment else None)
        except (OSError, SyntaxError, ValueError) as error:
            raise BadPicture(f"{path} cannot be read as a picture: {error}. Remove it from the dataset.") from error
        return np.asarray(square)


def _cut(image: Image.Image, scale: int, size: int, chance: np.random.Generator | None) -> Image.Image:
    """Short side to `scale`, then a square of `size`: a random one, perhaps flipped, or the middle."""
    factor = scale / min(image.size)
    width, height = (max(size, round(side * factor)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    if chance is None:
        left, top = (width - size) // 2, (height - size) // 2
        return image.crop((left, top, left + size, top + size))
    for _ in range(TRIES):
        left, top = int(chance.integers(width - size + 1)), int(chance.integers(height - size + 1))
        square = image.crop((left, top, left + size, top + size))
        if np.std(np.asarray(square)) >= EVEN:
            break
    return ImageOps.mirror(square) if chance.random() < 0.5 else square
