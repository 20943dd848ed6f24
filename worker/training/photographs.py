"""Photographs to train on, prepared as in the report: short side resized, centre crop, 0..255.

A batch depends on the seed and on the number of its first picture alone. So a run that was stopped goes on with the
pictures that an unbroken run would have seen.
"""

import logging
import shutil
import zlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tarfile import TarError
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from impasto.core.errors import BadParameter, BadPicture, ImpastoError, NotFound
from impasto.core.files import replacing_folder, stamp
from impasto.core.pictures.codec import read_picture
from impasto.core.pictures.guard import SUFFIXES, is_picture
from impasto.core.pictures.tensors import to_tensor

log = logging.getLogger("impasto")

EVEN = 12.0
"""A random crop with a smaller deviation of its pixels is drawn again, `TRIES` times at most: InstanceNorm would
amplify its noise."""
TRIES = 5

HELD_OUT = frozenset(
    (139, 285, 632, 724, 776, 785, 802, 872, 885, 1000, 1268, 1296, 1353, 1425, 1490, 1503, 1532, 1584, 1675, 1761)
)
"""COCO's numbers of the twenty photographs held out for evaluation; val2014 has them under the same numbers."""


def open_dataset(source: Path, cache: Path, on_unpack: Callable[[str], None] | None = None) -> list[Path]:
    """Photographs in a folder, or the folders in it, or in an archive (.zip, .tar.gz, .tar), sorted by path.

    TinyImageNet's validation and test pictures and the photographs held out for evaluation are left out. An archive is
    unpacked once, into `cache`. Raises NotFound where there is no such source, BadParameter for an archive that cannot
    be unpacked or a source without pictures.
    """
    return _some([path for path in _photographs(source, cache, on_unpack) if not is_held_out(path)], source)


def open_held_out(source: Path, cache: Path, on_unpack: Callable[[str], None] | None = None) -> list[Path]:
    """The photographs of `source` held out for evaluation; of another set than COCO all. Raises as `open_dataset`."""
    paths = _some(_photographs(source, cache, on_unpack), source)
    return [path for path in paths if is_held_out(path)] or paths


def _photographs(source: Path, cache: Path, on_unpack: Callable[[str], None] | None) -> list[Path]:
    if source.is_file():
        source = _unpack(source, cache, on_unpack)
    if not source.is_dir():
        raise NotFound(f"There is no folder or archive of photographs at {source}.")
    tiny = (source / "wnids.txt").exists() or any(source.glob("*/wnids.txt"))
    return [path for path in sorted(source.rglob("train/*/images/*" if tiny else "*")) if is_picture(path.name)]


def _some(paths: list[Path], source: Path) -> list[Path]:
    """The paths. Raises BadParameter where there are none."""
    if not paths:
        raise BadParameter(f"There are no photographs ({', '.join(sorted(SUFFIXES))}) in {source}.")
    return paths


def is_held_out(path: Path) -> bool:
    """Whether this is one of COCO's twenty held-out photographs."""
    number = path.stem.rsplit("_", 1)[-1]
    return len(number) == 12 and number.isdigit() and int(number) in HELD_OUT


def _unpack(archive: Path, cache: Path, on_unpack: Callable[[str], None] | None) -> Path:
    """Unpack `archive` into a folder of `cache`, named by its path, size and time of change, unless it is there."""
    changed, size = stamp(archive)
    key = sha256(f"{archive.resolve()}{size}{changed}".encode()).hexdigest()[:12]
    folder = cache / f"{archive.name.split('.')[0]}-{key}"
    if folder.exists():
        return folder
    if on_unpack:
        on_unpack(f"unpacking {archive.name} into {folder}")
    try:
        with replacing_folder(folder) as partial:
            if archive.suffix == ".zip":
                shutil.unpack_archive(archive, partial)
            else:
                shutil.unpack_archive(archive, partial, filter="data")
    except (shutil.ReadError, TarError, BadZipFile, zlib.error, OSError, EOFError) as error:
        raise BadParameter(f"{archive} cannot be unpacked: {error}. Give a .zip, .tar.gz or .tar archive.") from error
    return folder


class Batches:
    """Training pictures, float32 RGB 0..255: `batches(first, size, batch)` is (batch, 3, size, size).

    Every photograph comes once an epoch, in an order shuffled anew each time. The next one replaces a photograph that
    cannot be read. With `augment` the short side is resized to between 1 and 1.5 times `scale`, and a random square is
    cropped, flipped or not. Without, the short side is resized to `scale` and the middle is cropped: the report's
    preparation, with scale = size.
    """

    def __init__(self, paths: list[Path], scale: int, seed: int, augment: bool) -> None:
        self.paths, self.scale, self.seed, self.augment = paths, scale, seed, augment

    def __call__(self, first: int, size: int, batch: int) -> Tensor:
        """Pictures `first` to `first + batch` of the sequence of all epochs."""
        return _tensor([self._picture(first + k, size) for k in range(batch)])

    def middle(self, size: int) -> Tensor:
        """The middle of the first photograph (1, 3, size, size), whatever `augment` says."""
        return _tensor([_cut(self._open(0), size, size, None)])

    def _picture(self, index: int, size: int) -> Image.Image:
        epoch, place = divmod(index, len(self.paths))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.paths))
        photograph = self._open(int(order[place]))
        if not self.augment:
            return _cut(photograph, max(size, self.scale), size, None)
        chance = np.random.default_rng([self.seed, 1, index])
        return _cut(photograph, max(size, round(self.scale * chance.uniform(1, 1.5))), size, chance)

    def _open(self, number: int) -> Image.Image:
        """A photograph, or the next that can be read. Raises BadPicture where none can."""
        for path in self.paths[number:] + self.paths[:number]:
            try:
                return Image.fromarray(read_picture(path).rgb)
            except ImpastoError as error:
                log.warning("%s is passed over: %s", path, error)
        raise BadPicture(f"None of the {len(self.paths)} photographs can be read; the log says why.")


def _tensor(squares: list[Image.Image]) -> Tensor:
    """(B, 3, size, size), float32."""
    return torch.cat([to_tensor(np.asarray(square)) for square in squares])


def _cut(image: Image.Image, scale: int, size: int, chance: np.random.Generator | None) -> Image.Image:
    """Resize the short side to `scale`, then crop a square of `size`: a random one, perhaps flipped, or the middle."""
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
