"""`impasto distil`: train the loss networks that the clone ships, each by its original as the teacher."""

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
"""What the students have of VGG16 and of SqueezeNet 1.1."""

BATCH, SIZE, SCALE = 4, 128, 256
"""Crops a batch, their side, and the pictures' short side at least, px."""

HELD_OUT = 20
"""Pictures at most that nothing is learnt from; where none of COCO's are among them, every so manieth."""


class DistilCard(BaseModel):
    """What the file of a distilled network says of itself."""

    teacher: str
    """`imagenet`, or the name of a file."""
    teacher_sha256: str
    images: int
    """Pictures that its crops were drawn from."""
    crops: int | None = None
    """Crops that it was trained on; of the first cards four a batch."""
    batches: int
    epochs: int
    seed: int
    explained: dict[str, float]
    """By layer, on pictures held out: the part of the variance of the teacher's features, end to end."""
    gram_error: dict[str, float]
    """How far its Gram matrices are from the teacher's there, as a part of them."""
    machine: str
    created: AwareDatetime


def distil_network(
    name: str, teacher: str, data: list[Path], cache: Path, out: Path, *, batches: int, epochs: int, seed: int
) -> DistilCard:
    """Train the student of `name`, vgg16 or squeezenet, on pictures of `data`, write it to `out` with its card and
    return that. Raises NotFound and BadParameter for data or a teacher that will not do."""
    paths = [path for source in data for path in open_dataset(source, cache, click.echo)]
    if not (held_out := [path for source in data for path in open_held_out(source, cache) if is_held_out(path)]):
        held_out, paths = paths[::HELD_OUT], [path for k, path in enumerate(paths) if k % HELD_OUT]
    if not paths:
        raise BadParameter("One picture is not enough: some are learnt from, and some held out.")
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
    """Teacher, untrained student, what runs either, and the hash of the teacher's file."""
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
            raise NotFound(f"No SqueezeNet at {path}. Use `imagenet` or the path of a .safetensors.")
        state = read_safetensors(path)
    sha256 = file_sha256(path)
    return squeezenet_of(state, sha256, teacher), SqueezeNet(), lambda net, x: net(x, FIRES), sha256


def _save_squeezenet(path: Path, net: SqueezeNet, card: str) -> None:
    """In float16, named as `load_squeezenet` reads it."""
    tensors = {name.removeprefix("fires."): value.half().contiguous() for name, value in net.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"card": card})
