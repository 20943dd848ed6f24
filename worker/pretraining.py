"""VGG16 as a classifier of TinyImageNet: where the bundled loss network comes from."""

import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from math import cos, pi
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import vgg16_bn
from torchvision.transforms.v2 import MixUp

from core.engine import has_bfloat16
from core.errors import BadParameter, NotFound
from core.files import replacing
from core.memory import keep_memory
from core.recipes import PretrainParams
from core.vgg import MEAN
from worker.folding import DEVIATION

SIDE = 64
"""Of TinyImageNet's pictures, px."""
SAVE_EVERY = 100
RISING = 500
"""Steps over which the rate rises from nothing, or a tenth of a shorter run's."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Classes:
    """Pictures (N, 3, 64, 64) and their classes (N,), to train on and to validate with."""

    pictures: Pixels
    labels: Tensor
    held_out: Pixels
    held_out_labels: Tensor

    @property
    def count(self) -> int:
        return int(self.labels.max()) + 1


@dataclass(frozen=True)
class Progress:
    """A step done: its number from 1, how many there are, its loss, and top-1 accuracy where a stage has just ended."""

    number: int
    total: int
    loss: float
    accuracy: float | None = None


def read_classes(archive: Path, folder: Path) -> Classes:
    """TinyImageNet's official archive (.tar.gz); its pixels are kept in `folder`, 1.3 GB, to be mapped next time.

    Raises NotFound without the archive, BadParameter where it is another.
    """
    kept = [folder / f"{name}.npy" for name in ("pictures", "labels", "held_out", "held_out_labels")]
    if not kept[-1].exists():
        if not archive.is_file():
            raise NotFound(f"No archive of TinyImageNet at {archive}: `impasto data fetch tinyimagenet` gets it.")
        folder.mkdir(parents=True, exist_ok=True)
        for path, array in zip(kept, _unpack(archive), strict=True):
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, array)
    pictures, labels, held_out, held_out_labels = (np.load(path, mmap_mode="r") for path in kept)
    return Classes(pictures, torch.from_numpy(labels.copy()), held_out, torch.from_numpy(held_out_labels.copy()))


def _unpack(archive: Path) -> tuple[NDArray[np.generic], ...]:
    train: dict[str, list[Pixels]] = {}
    held_out: dict[str, Pixels] = {}
    classes: dict[str, str] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                parts = member.name.split("/")
                if member.name.endswith("val/val_annotations.txt"):
                    lines = _read(tar, member).decode().splitlines()
                    classes = dict(line.split("\t")[:2] for line in lines)
                elif parts[-1].endswith(".JPEG") and "train" in parts:
                    train.setdefault(parts[parts.index("train") + 1], []).append(_pixels(_read(tar, member)))
                elif parts[-1].endswith(".JPEG") and "val" in parts:
                    held_out[parts[-1]] = _pixels(_read(tar, member))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadParameter(f"{archive} cannot be read: {error}. It should be TinyImageNet's .tar.gz.") from error
    names = sorted(train)
    if len(names) < 2 or not held_out or not set(held_out) <= set(classes):
        raise BadParameter(f"{archive} has not the folders of TinyImageNet: train, and val with its annotations.")
    return (
        np.stack([picture for name in names for picture in train[name]]),
        np.repeat(np.arange(len(names)), [len(train[name]) for name in names]),
        np.stack(list(held_out.values())),
        np.array([names.index(classes[name]) for name in held_out]),
    )


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""


def _pixels(data: bytes) -> Pixels:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB").resize((SIDE, SIDE))).transpose(2, 0, 1)


class Classifier(nn.Module):
    """VGG16 with batch norm; in place of its three dense layers a mean and one: the features are what is wanted."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features: nn.Sequential = vgg16_bn(weights=None).features
        self.dense = nn.Linear(512, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W), RGB 0..255 -> (B, classes)."""
        mean = torch.tensor(MEAN, device=pictures.device).view(1, 3, 1, 1)
        x = ((pictures - mean) / DEVIATION).contiguous(memory_format=torch.channels_last)
        scores: Tensor = self.dense(self.features(x).mean((2, 3)))
        return scores


def pretrain(
    params: PretrainParams,
    classes: Classes,
    folder: Path,
    *,
    device: str = "cpu",
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Classifier, float] | None:
    """Train the classifier and return it with its top-1 accuracy, or None when `should_stop` said so.

    `folder` takes the state; a run that was stopped goes on from there, and on the CPU gives the same weights as one
    that was not. SGD with Nesterov's momentum, a cosine schedule, smoothed labels. Raises BadParameter when `folder`
    holds a run of other parameters.
    """
    keep_memory()
    epoch = len(classes.labels) // params.batch
    if not epoch:
        raise BadParameter(f"{len(classes.labels)} pictures are less than a batch of {params.batch}: lower it.")
    stages = [(size, max(1, round(epochs * epoch))) for size, epochs in params.stages]
    total = sum(steps for _, steps in stages)
    torch.manual_seed(params.seed)
    net = Classifier(classes.count).to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(net.parameters(), params.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    state_path = folder / "state.pt"
    done = 0
    if state_path.exists():
        state = torch.load(state_path, map_location=device, weights_only=True)
        if state["params"] != params.model_dump_json():
            raise BadParameter(f"{folder} holds a run with other parameters. Give the same, or another folder.")
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        done = state["done"]
    ends = dict(zip(np.cumsum([steps for _, steps in stages]).tolist(), (size for size, _ in stages), strict=True))
    rising, accuracy = min(RISING, total / 10), 0.0
    for step in range(done, total):
        torch.manual_seed((params.seed << 32) + step)  # so that a step is the same after a stop
        size = next(size for end, size in ends.items() if step < end)
        for group in optimiser.param_groups:
            group["lr"] = params.lr * min(1, (step + 1) / rising) * 0.5 * (1 + cos(pi * step / total))
        loss = _loss(net, *_batch(classes, params, step, size, epoch, device), device)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        stop = should_stop()
        last = step + 1 in ends
        if last:
            accuracy = validate(net, classes, size, device)
        if stop or last or (step + 1) % SAVE_EVERY == 0:
            _save(state_path, net, optimiser, params, step + 1)
        on_step(Progress(step + 1, total, loss.item(), accuracy if last else None))
        if stop and step + 1 < total:
            return None
    return net.cpu(), accuracy or validate(net, classes, stages[-1][0], "cpu")


def validate(net: Classifier, classes: Classes, size: int, device: str) -> float:
    """Top-1 accuracy on the pictures held out, at `size` px."""
    net.eval()
    hits = 0
    with torch.no_grad():
        for first in range(0, len(classes.held_out), 200):
            pictures = torch.from_numpy(classes.held_out[first : first + 200].copy()).to(device).float()
            found = net(_resized(pictures, size)).argmax(1).cpu()
            hits += int((found == classes.held_out_labels[first : first + 200]).sum())
    net.train()
    return hits / len(classes.held_out)


def _loss(net: Classifier, pictures: Tensor, wanted: Tensor, device: str) -> Tensor:
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16, enabled=has_bfloat16(kind)):
        scores = net(pictures)
    return F.cross_entropy(scores.float(), wanted, label_smoothing=0.1)


def _batch(
    classes: Classes, params: PretrainParams, step: int, size: int, epoch: int, device: str
) -> tuple[Tensor, Tensor]:
    """The pictures (B, 3, size, size) and wanted classes of a step: (B,), or (B, classes) where they are mixed."""
    order = np.random.default_rng((params.seed, step // epoch)).permutation(len(classes.labels))
    chosen = np.sort(order[step % epoch * params.batch :][: params.batch])
    pictures = torch.from_numpy(classes.pictures[chosen]).to(device).float()
    pictures, wanted = _cropped(pictures, size), classes.labels[chosen].to(device)
    if params.mixup:
        pictures, wanted = MixUp(alpha=params.mixup, num_classes=classes.count)(pictures, wanted)
    return pictures, wanted


def _cropped(pictures: Tensor, size: int) -> Tensor:
    """A random crop of all at `size`, half of the times at native sharpness, and flips.

    Sharp and resized crops both matter: a network that has seen only resized ones is lost on sharp ones.
    """
    sharp = SIDE >= size >= 48 and torch.rand(()) < 0.5
    side = size if sharp else round(SIDE * (0.6 + 0.4 * torch.rand(()).item()) ** 0.5)
    if side == SIDE:
        pictures = F.pad(pictures, (4, 4, 4, 4), mode="reflect")
    room = pictures.shape[-1] - side
    top, left = torch.randint(0, room + 1, (2,)).tolist()
    pictures = _resized(pictures[:, :, top : top + side, left : left + side], size)
    flipped = torch.rand(len(pictures)) < 0.5
    pictures[flipped] = pictures[flipped].flip(3)
    return pictures


def _resized(pictures: Tensor, size: int) -> Tensor:
    if pictures.shape[-1] == size:
        return pictures.clone()
    return F.interpolate(pictures, (size, size), mode="bilinear", antialias=True)


def _save(path: Path, net: nn.Module, optimiser: torch.optim.Optimizer, params: PretrainParams, done: int) -> None:
    state = {
        "params": params.model_dump_json(),
        "net": net.state_dict(),
        "optimiser": optimiser.state_dict(),
        "done": done,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        torch.save(state, temporary)
