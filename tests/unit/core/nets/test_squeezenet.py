"""SqueezeNet: what its layers are, that it computes what torchvision's does, and what of a file is refused."""

from pathlib import Path

import pytest
import torch
from torch import nn

from impasto.core.errors import BadCheckpoint, NotFound
from impasto.core.files import file_sha256
from impasto.core.nets import squeezenet as module
from impasto.core.nets.squeezenet import MEAN, WIDTHS, SqueezeNet, from_torchvision, load_squeezenet, squeezenet_of
from impasto.core.nets.weights import SQUEEZENET, Bundled, fetch_imagenet, read_safetensors
from impasto.worker.training.distillation import likeness
from impasto.worker.training.photographs import Batches, open_held_out
from tests.conftest import SHARED

PLACES = {"fire2": 3, "fire3": 4, "fire4": 6, "fire5": 7, "fire6": 9, "fire7": 10}
"""Of torchvision's `features`."""


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """torchvision's, untrained, with biases that are not 0."""
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    net = squeezenet1_1(weights=None).eval().requires_grad_(False)
    for name, value in net.named_parameters():
        if name.endswith("bias"):
            value.uniform_(-0.1, 0.1)
    return net


def normalised(pictures: torch.Tensor) -> torch.Tensor:
    """As torchvision's weights take them."""
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (pictures / 255 - mean) / deviation


def test_features_have_their_layers_shapes(networks):
    features = networks.squeezenet(torch.rand(2, 3, 64, 96) * 255, WIDTHS)
    assert {name: tuple(f.shape) for name, f in features.items()} == {
        "fire2": (2, 128, 16, 24),
        "fire3": (2, 128, 16, 24),
        "fire4": (2, 256, 8, 12),
        "fire5": (2, 256, 8, 12),
        "fire6": (2, 384, 4, 6),
        "fire7": (2, 384, 4, 6),
    }
    assert all(f.min() >= 0 for f in features.values())
    assert list(networks.squeezenet(torch.rand(1, 3, 16, 16) * 255, ["fire3"])) == ["fire3"]


def test_the_mean_colour_is_zero_inside(networks):
    net = networks.squeezenet
    pictures = torch.tensor(MEAN).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    seen = []
    hook = net.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(pictures, ["fire2"])
    hook.remove()
    assert not seen[0].any()


def test_conv1_gives_what_torchvisions_gives_of_its_normalisation(theirs):
    state = from_torchvision(theirs.state_dict())
    pictures = torch.rand(2, 3, 33, 32) * 255
    given = nn.functional.conv2d(
        pictures - torch.tensor(MEAN).view(1, 3, 1, 1), state["conv1.weight"], state["conv1.bias"], stride=2
    )
    torch.testing.assert_close(given, theirs.features[0](normalised(pictures)), atol=1e-4, rtol=1e-4)


def test_it_is_torchvisions_squeezenet(theirs):
    """Of a picture with a border of the mean colour, which ours pads with and torchvision's, without padding, sees."""
    ours = squeezenet_of(from_torchvision(theirs.state_dict()), "", "torchvision")
    picture = torch.rand(1, 3, 64, 48) * 255
    bordered = torch.tensor(MEAN).view(1, 3, 1, 1).repeat(1, 1, 66, 50)
    bordered[..., 1:-1, 1:-1] = picture
    features, x = ours(picture, PLACES), normalised(bordered)
    for place, layer in enumerate(theirs.features[:11]):
        x = layer(x)
        for name in (name for name, at in PLACES.items() if at == place):
            torch.testing.assert_close(features[name], x, atol=1e-4, rtol=1e-3)


def test_deeper_layers_are_left_out_and_missing_or_wrong_ones_refused(theirs):
    state = from_torchvision(theirs.state_dict())
    net = squeezenet_of(state | {"fire8.squeeze1x1.weight": torch.zeros(1)}, "ab", "here")
    assert net.sha256 == "ab"
    assert not any(p.requires_grad for p in net.parameters())
    for wrong in (
        {k: v for k, v in state.items() if k != "fire7.expand3x3.bias"},
        state | {"conv1.weight": torch.zeros(1)},
        {},
    ):
        with pytest.raises(BadCheckpoint, match="here does not hold SqueezeNet"):
            squeezenet_of(wrong, "", "here")


def test_bundled_weights_are_checked_by_hash(tmp_path, monkeypatch):
    assert load_squeezenet().sha256 == SQUEEZENET.sha256 == file_sha256(SQUEEZENET.path)
    damaged = Bundled(tmp_path / "squeezenet.safetensors", SQUEEZENET.sha256)
    damaged.path.write_bytes(SQUEEZENET.path.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(module, "SQUEEZENET", damaged)
    with pytest.raises(BadCheckpoint, match="not the file of this version"):
        load_squeezenet()
    damaged.path.unlink()
    with pytest.raises(NotFound, match="missing"):
        load_squeezenet()


def test_the_bundled_one_computes_what_the_original_does():
    """On photographs that it was not trained on."""
    original = SHARED / "data/squeezenet11-original/squeezenet11.safetensors"
    if not original.is_file():
        pytest.skip("../shared/data/squeezenet11-original is not here")
    teacher = squeezenet_of(read_safetensors(original), "", str(original))
    held_out = open_held_out(SHARED / "data/coco/val2017", Path())[:6]
    whole = Batches(held_out, 256, 0, augment=False)
    pictures = [whole(number, 256, 1) for number in range(len(held_out))]
    found = likeness(teacher, load_squeezenet(), lambda net, x: net(x, WIDTHS), pictures)
    assert all(explained > 0.95 for explained, _ in found.values()), found
    assert found["fire5"][0] > 0.99 and found["fire5"][1] < 0.05


def test_imagenet_is_fetched_by_torchvisions_loader_and_comes_in_our_units(theirs, tmp_path, monkeypatch):
    from torchvision.models import SqueezeNet1_1_Weights

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    weights = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), weights)
    source = weights.rename(tmp_path / f"squeezenet1_1-{file_sha256(weights)[:8]}.pth")  # the loader checks the hash
    monkeypatch.setattr(SqueezeNet1_1_Weights.IMAGENET1K_V1.value, "url", source.as_uri())
    path, state = fetch_imagenet(SqueezeNet1_1_Weights.IMAGENET1K_V1)
    state = from_torchvision(state)
    assert path == tmp_path / "hub/checkpoints" / source.name
    assert path.is_file()
    wanted = from_torchvision(theirs.state_dict())
    assert state.keys() == wanted.keys() == {k.removeprefix("fires.") for k in SqueezeNet().state_dict()}
    assert all(torch.equal(value, state[name]) for name, value in wanted.items())
