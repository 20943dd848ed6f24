"""`impasto distil`: train the loss networks of the clone, with the originals as teachers."""

from datetime import UTC, datetime
from pathlib import Path

import click
import torch
from pydantic import AwareDatetime, BaseModel
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from impasto.core.device import device_name
from impasto.core.errors import BadParameter, NotFound
from impasto.core.files import file_sha256, replacing
from impasto.core.nets.squeezenet import SqueezeNet, from_torchvision, squeezenet_of
from impasto.core.nets.vgg import VGG16, load_vgg16, save_vgg16
from impasto.core.nets.weights import fetch_imagenet, read_safetensors
from impasto.worker.training.distillation import Features, Step, distil, likeness
from impasto.worker.training.photographs import Batches, is_held_out, open_dataset, open_held_out

FRONT = ("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1")
FIRES = ("fire2", "fire3", "fire4", "fire5", "fire6", "fire7")
"""Layers of the students: of VGG16 and of SqueezeNet 1.1."""

BATCH, SIZE, SCALE = 4, 128, 256
"""Crops a batch, their side in px, and the least short side of the pictures in px."""

HELD_OUT = 20
"""Most pictures that are held out. Without COCO's own it is one in so many."""


class DistilCard(BaseModel):
    """The description of a distilled network, in its file."""

    teacher: str
    """`imagenet`, or the name of a file."""
    teacher_sha256: str
    images: int
    """Pictures that its crops were drawn from."""
    crops: int | None = None
    """Crops that it was trained on. The first cards do not have it: four a batch."""
    batches: int
    epochs: int
    seed: int
    explained: dict[str, float]
    """By layer, on held-out pictures: the explained part of the variance of the teacher's features, end to end."""
    gram_error: dict[str, float]
    """The distance of its Gram matrices from the teacher's there, as a part of the teacher's."""
    machine: str
    created: AwareDatetime


def distil_network(
    name: str, teacher: str, data: list[Path], cache: Path, out: Path, *, batches: int, epochs: int, seed: int
) -> DistilCard:
    """Train the student of `name`, vgg16 or squeezenet, on pictures of `data`. Write it to `out` with its card, and
    return the card.

    Raises NotFound where data or teacher are not found, BadParameter where they cannot be used.
    """
    paths = [path for source in data for path in open_dataset(source, cache, click.echo)]
    if not (held_out := [path for source in data for path in open_held_out(source, cache) if is_held_out(path)]):
        held_out, paths = paths[::HELD_OUT], [path for k, path in enumerate(paths) if k % HELD_OUT]
    if not paths:
        raise BadParameter("One picture is not enough, as some are held out. Give two or more.")
    held_out = held_out[:HELD_OUT]
    torch.manual_seed(seed)
    theirs, ours, features, sha256 = _pair(name, teacher)
    crops = Batches(paths, SCALE, seed, augment=True)
    pictures = [crops(number * BATCH, SIZE, BATCH) for number in range(batches)]
    with tqdm(unit="batch", dynamic_ncols=True, total=batches * epochs) as bar:

        def show(step: Step) -> None:
            bar.set_postfix(unexplained=f"{step.unexplained:.4f}", refresh=False)
            bar.update()

        distil(theirs, ours, features, pictures, epochs, on_step=show)
    whole = Batches(held_out, SCALE, seed, augment=False)
    found = likeness(theirs, ours, features, [whole(number, SCALE, 1) for number in range(len(held_out))])
    card = DistilCard(
        teacher=teacher if teacher == "imagenet" else Path(teacher).name,
        teacher_sha256=sha256,
        images=len(paths),
        crops=batches * BATCH,
        batches=batches,
        epochs=epochs,
        seed=seed,
        explained={layer: round(explained, 4) for layer, (explained, _) in found.items()},
        gram_error={layer: round(apart, 4) for layer, (_, apart) in found.items()},
        machine=device_name("cpu"),
        created=datetime.now(UTC).replace(microsecond=0),
    )
    if isinstance(ours, VGG16):
        save_vgg16(out, ours, card.model_dump_json())
    else:
        _save_squeezenet(out, ours, card.model_dump_json())
    click.echo(f"{out}: {', '.join(f'{layer} {part:.1%}' for layer, part in card.explained.items())}")
    return card


def _pair(name: str, teacher: str) -> tuple[nn.Module, VGG16 | SqueezeNet, Features, str]:
    """Teacher, untrained student, the function that runs either, and the hash of the teacher's file."""
    if name == "vgg16":
        vgg = load_vgg16(teacher)
        return vgg, VGG16(depth=len(FRONT)), lambda net, x: net(x, FRONT), vgg.sha256
    if teacher == "imagenet":
        from torchvision.models import SqueezeNet1_1_Weights

        path, state = fetch_imagenet(SqueezeNet1_1_Weights.IMAGENET1K_V1)
        state = from_torchvision(state)
    else:
        path = Path(teacher)
        if not path.is_file():
            raise NotFound(f"There is no SqueezeNet at {path}. Use `imagenet` or the path of a .safetensors.")
        state = read_safetensors(path)
    sha256 = file_sha256(path)
    return squeezenet_of(state, sha256, teacher), SqueezeNet(), lambda net, x: net(x, FIRES), sha256


def _save_squeezenet(path: Path, net: SqueezeNet, card: str) -> None:
    """Write it in float16, with the names that `load_squeezenet` reads."""
    tensors = {name.removeprefix("fires."): value.half().contiguous() for name, value in net.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"card": card})
