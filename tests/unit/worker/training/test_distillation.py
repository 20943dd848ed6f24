"""Small networks that learn a random teacher, and the loss networks in the clone, which learnt so."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from impasto.core.errors import BadParameter, NotFound
from impasto.core.files import file_sha256
from impasto.core.nets.squeezenet import SqueezeNet, squeezenet_of
from impasto.core.nets.vgg import MEAN, VGG16, load_vgg16, save_vgg16
from impasto.core.nets.weights import FRONT as BUNDLED_FRONT
from impasto.core.nets.weights import SQUEEZENET, read_safetensors
from impasto.training.distil import FIRES, FRONT, DistilCard, distil_network
from impasto.worker.training.distillation import Step, distil, likeness
from impasto.worker.training.photographs import Batches, open_held_out
from tests.conftest import SHARED


class Small(nn.Module):
    """Two convolutions, the second of stride 2."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        first = F.relu(self.first(pictures - torch.tensor(MEAN).view(1, 3, 1, 1)))
        return {"first": first, "second": F.relu(self.second(first))}


def features(net: nn.Module, pictures: Tensor) -> dict[str, Tensor]:
    return net(pictures)


def soft(seed: int, batch: int, side: int = 32) -> Tensor:
    """Pictures as smooth as photographs, whose neighbouring pixels are alike."""
    small = torch.rand(batch, 3, 9, 9, generator=torch.Generator().manual_seed(seed)) * 255
    return F.interpolate(small, (side, side), mode="bicubic").clamp(0, 255)


def test_a_small_network_learns_what_a_random_one_computes():
    teacher, student = Small(0), Small(1)
    batches = [soft(k, 4) for k in range(6)]
    unseen = [soft(100 + k, 1) for k in range(4)]
    before = likeness(teacher, student, features, unseen)
    assert max(explained for explained, _ in before.values()) < 0.5
    steps: list[Step] = []
    distil(teacher, student, features, batches, 40, on_step=steps.append)
    after = likeness(teacher, student, features, unseen)
    assert all(explained > 0.97 and apart < 0.03 for explained, apart in after.values()), after
    assert [step.number for step in steps] == list(range(1, 241))
    assert {step.total for step in steps} == {240}
    assert steps[-1].unexplained < 0.03 < steps[5].unexplained
    assert not any(module._forward_hooks for module in teacher.modules())


def test_the_teacher_stays_as_it_is_and_the_same_is_learnt_each_time():
    teacher, batches = Small(0), [soft(0, 2)]
    was = {name: value.clone() for name, value in teacher.state_dict().items()}
    students = [Small(1), Small(1)]
    for student in students:
        distil(teacher, student, features, batches, 3)
    assert all(torch.equal(value, teacher.state_dict()[name]) for name, value in was.items())
    for one, other in zip(students[0].parameters(), students[1].parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(students[0].first.weight, Small(1).first.weight)


def test_a_teacher_that_is_copied_has_nothing_left_to_explain():
    teacher = Small(0)
    found = likeness(teacher, Small(0), features, [soft(0, 1)])
    assert found == {layer: pytest.approx((1, 0), abs=1e-5) for layer in ("first", "second")}


def test_likeness_on_paper():
    """A student of twice the features is as far off as they are from 0; one of their means explains nothing."""
    wanted = torch.tensor([[1.0, -1], [-1, 1]]).view(1, 1, 2, 2)  # of mean 0

    def scaled(net: nn.Module, pictures: Tensor) -> dict[str, Tensor]:
        return {"layer": wanted * next(net.parameters()).mean()}

    nets = [nn.Linear(1, 1) for _ in range(3)]
    for net, factor in zip(nets, (1.0, 2.0, 0.0), strict=True):
        net.weight.data.fill_(factor)
    teacher, twice, nothing = nets
    # Of twice the features the Gram matrix is four times as large.
    assert likeness(teacher, twice, scaled, [wanted]) == {"layer": pytest.approx((0, 3))}
    assert likeness(teacher, nothing, scaled, [wanted]) == {"layer": pytest.approx((0, 1))}


def card_of(path: Path) -> DistilCard:
    with safe_open(path, "numpy") as file:
        return DistilCard.model_validate_json(file.metadata()["card"])


@pytest.mark.parametrize(
    ("bundled", "layers"), [(BUNDLED_FRONT, FRONT), (SQUEEZENET, FIRES)], ids=["vgg16", "squeezenet"]
)
def test_the_loss_networks_in_the_clone_are_those_that_were_made(bundled, layers, networks):
    assert file_sha256(bundled.path) == bundled.sha256
    card = card_of(bundled.path)
    assert list(card.explained) == list(card.gram_error) == list(layers)
    assert min(card.explained.values()) > 0.95
    loaded = {BUNDLED_FRONT: networks.vgg, SQUEEZENET: networks.squeezenet}[bundled]
    assert loaded.sha256 == bundled.sha256
    assert all(value.isfinite().all() for value in loaded.state_dict().values())


def test_the_bundled_front_computes_what_the_original_does():
    """On photographs that it was not trained on."""
    original = SHARED / "data/vgg16-original/vgg16-conv1_1-conv3_1.safetensors"
    if not original.is_file():
        pytest.skip("../shared/data/vgg16-original is not here")
    held_out = open_held_out(SHARED / "data/coco/val2017", SHARED)[:2]
    whole = Batches(held_out, 256, 0, augment=False)
    pictures = [whole(number, 256, 1) for number in range(len(held_out))]
    found = likeness(load_vgg16(str(original)), load_vgg16(), lambda net, x: net(x, FRONT), pictures)
    assert list(found) == list(FRONT)
    assert all(explained > 0.97 and apart < 0.03 for explained, apart in found.values()), found


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k, picture in enumerate(soft(0, 2, 64)):
        Image.fromarray(picture.permute(1, 2, 0).byte().numpy()).save(folder / f"{k}.png")
    return folder


def make(name: str, teacher: Path, pictures: Path, out: Path) -> DistilCard:
    return distil_network(name, str(teacher), [pictures], pictures.parent, out, batches=1, epochs=1, seed=3)


def test_a_front_is_written_with_its_card_and_read_again(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("impasto.training.distil.SIZE", 32)
    monkeypatch.setattr("impasto.training.distil.SCALE", 64)
    torch.manual_seed(0)
    teacher, out = tmp_path / "teacher.safetensors", tmp_path / "out/front.safetensors"
    save_vgg16(teacher, VGG16(), "{}")
    card = make("vgg16", teacher, pictures, out)
    assert (card.teacher, card.teacher_sha256) == ("teacher.safetensors", file_sha256(teacher))
    assert (card.images, card.crops, card.batches, card.epochs, card.seed) == (1, 4, 1, 1, 3)  # the other is held out
    assert card_of(out) == card
    vgg = load_vgg16(str(out))
    assert [*vgg.convs] == [*card.explained] == [*FRONT]
    assert not torch.equal(vgg.convs["relu3_1"].weight, load_vgg16(str(teacher)).convs["relu3_1"].weight)
    assert str(out) in capsys.readouterr().out


def test_a_squeezenet_is_written_with_its_card_and_read_again(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("impasto.training.distil.SIZE", 32)
    monkeypatch.setattr("impasto.training.distil.SCALE", 64)
    out = tmp_path / "squeezenet.safetensors"
    card = make("squeezenet", SQUEEZENET.path, pictures, out)
    assert card_of(out) == card
    assert [*card.explained] == [*FIRES]
    net = squeezenet_of(read_safetensors(out), "", str(out))
    assert isinstance(net, SqueezeNet)
    assert all(value.isfinite().all() for value in net.state_dict().values())


def test_a_teacher_that_is_not_there(pictures, tmp_path):
    for name in ("vgg16", "squeezenet"):
        with pytest.raises(NotFound, match=r"There is no .* at .*none\.safetensors"):
            make(name, tmp_path / "none.safetensors", pictures, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_one_picture_is_not_enough(pictures, tmp_path):
    for path in sorted(pictures.iterdir())[1:]:
        path.unlink()
    with pytest.raises(BadParameter, match="One picture is not enough"):
        make("squeezenet", SQUEEZENET.path, pictures, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
