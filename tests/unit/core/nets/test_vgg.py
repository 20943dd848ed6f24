import shutil

import pytest
import torch
from torch.nn import functional as F

from impasto.core.errors import BadCheckpoint, BadParameter, NotFound, Unavailable
from impasto.core.names import CHANNELS
from impasto.core.nets import vgg as module
from impasto.core.nets.vgg import MEAN, VGG16, load_encoder, load_vgg16, save_vgg16
from impasto.core.nets.weights import ENCODER, FRONT, Bundled, check_recipe, loss_network_sha256


def torchvision_state(vgg: VGG16, prefix: str = "features.") -> dict[str, torch.Tensor]:
    """The weights under torchvision's names."""
    return {
        f"{prefix}{index}.{kind}": getattr(conv, kind).data.clone()
        for index, conv in zip(module._TORCHVISION, vgg.convs.values(), strict=True)
        for kind in ("weight", "bias")
    }


def test_features_have_their_layers_shapes(whole):
    features = whole(torch.rand(2, 3, 32, 48) * 255, CHANNELS)
    assert list(features) == list(CHANNELS)
    assert features["relu1_2"].shape == (2, 64, 32, 48)
    assert features["relu5_3"].shape == (2, 512, 2, 3)
    assert all(f.min() >= 0 for f in features.values())


def test_it_is_torchvisions_vgg16(whole):
    from torchvision.models import vgg16

    theirs = vgg16(weights=None).features.eval()
    theirs.load_state_dict(torchvision_state(whole, prefix=""))
    picture = torch.rand(1, 3, 32, 32) * 255
    with torch.no_grad():
        expected = theirs[:23](picture - torch.tensor(MEAN).view(1, 3, 1, 1))  # up to relu4_3
    torch.testing.assert_close(whole(picture, ["relu4_3"])["relu4_3"], expected, atol=1e-2, rtol=1e-3)


def test_it_stops_at_the_last_layer_asked_for(vgg, monkeypatch):
    calls = []
    monkeypatch.setattr(F, "conv2d", lambda *a, conv=F.conv2d, **k: calls.append(1) or conv(*a, **k))
    vgg(torch.zeros(1, 3, 16, 16), ["relu2_2", "relu1_1"])
    assert len(calls) == 4


def test_what_was_handed_out_is_not_overwritten(whole):
    picture = torch.rand(1, 3, 16, 16) * 255
    alone = whole(picture, ["relu1_1"])["relu1_1"]
    assert torch.equal(whole(picture, CHANNELS)["relu1_1"], alone)


def test_the_mean_colour_is_zero_inside(vgg):
    grey = torch.tensor(MEAN).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    centre = vgg(grey, ["relu1_1"])["relu1_1"][0, :, 8, 8]
    torch.testing.assert_close(centre, F.relu(vgg.convs["relu1_1"].bias))


def test_an_unknown_layer_is_answered_with_the_nearest(vgg):
    with pytest.raises(NotFound, match="Did you mean 'relu4_2"):
        vgg(torch.zeros(1, 3, 16, 16), ["relu4_2x"])


def test_the_bundled_one_is_a_front(vgg, encoder):
    assert list(vgg.convs) == [*CHANNELS][:5]
    assert (vgg.source, vgg.sha256) == ("bundled", FRONT.sha256)
    assert list(encoder.convs) == [*CHANNELS][:9]
    assert encoder.sha256 == ENCODER.sha256
    assert load_encoder(str(FRONT.path)).sha256 == FRONT.sha256  # any other source is what `load_vgg16` makes of it


def test_a_layer_that_is_deeper_than_the_weights(vgg):
    with pytest.raises(BadParameter, match=r"'bundled' ends at relu3_1, and relu3_2, relu4_2 is deeper.*IMPASTO_VGG16"):
        vgg(torch.zeros(1, 3, 16, 16), ["relu4_2", "relu1_1", "relu3_2"])


def test_the_reports_objective_needs_a_whole_one():
    with pytest.raises(BadParameter, match=r"ends at relu3_1. Set IMPASTO_VGG16"):
        check_recipe("report", "bundled")
    for recipe, source in (("ours", "bundled"), ("report", "imagenet"), ("report", "whole.safetensors")):
        check_recipe(recipe, source)


def test_the_hash_of_a_source_without_loading_it(vgg, tmp_path):
    assert loss_network_sha256("bundled") == vgg.sha256
    assert loss_network_sha256(str(ENCODER.path)) == ENCODER.sha256
    assert loss_network_sha256(str(tmp_path / "none.pth")) is None


@pytest.mark.parametrize(("name", "load"), [("FRONT", load_vgg16), ("ENCODER", load_encoder)])
def test_bundled_weights_are_checked_by_hash(tmp_path, monkeypatch, name, load):
    there = getattr(module, name)
    damaged = tmp_path / "vgg16.safetensors"
    damaged.write_bytes(there.path.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(module, name, Bundled(damaged, there.sha256))
    with pytest.raises(BadCheckpoint, match="not the file of this version"):
        load()
    damaged.unlink()
    with pytest.raises(NotFound, match="missing"):
        load()


@pytest.mark.parametrize("depth", [1, 5, 13])
def test_a_file_may_hold_the_first_convolutions_alone(whole, tmp_path, depth):
    front = VGG16(depth=depth)
    front.convs.load_state_dict({k: v for k, v in whole.convs.state_dict().items() if k.split(".")[0] in front.convs})
    save_vgg16(tmp_path / "front.safetensors", front, "{}")
    read = load_vgg16(str(tmp_path / "front.safetensors"))
    last = [*CHANNELS][depth - 1]
    assert [*read.convs][-1] == last
    picture = torch.rand(1, 3, 32, 32) * 255
    assert torch.equal(read(picture, [last])[last], whole(picture, [last])[last])  # of float16, as they were kept


def test_a_pth_is_in_caffes_bgr(whole, tmp_path):
    state = torchvision_state(whole)
    state["features.0.weight"] = state["features.0.weight"].flip(1)
    path = tmp_path / "vgg16-00b39a1b.pth"
    torch.save(state, path)
    loaded = load_vgg16(str(path))
    picture = torch.rand(1, 3, 16, 16) * 255
    expected = whole(picture, ["relu2_2"])["relu2_2"]  # in the hundreds
    torch.testing.assert_close(loaded(picture, ["relu2_2"])["relu2_2"], expected, atol=1e-2, rtol=1e-3)
    assert loaded.source == str(path)
    assert loaded.sha256 == module.file_sha256(path)


class Payload:
    def __reduce__(self):
        return (print, ("pickled code ran",))


def test_no_pickled_code_is_run(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    torch.save({"0.weight": Payload()}, path)
    with pytest.raises(BadCheckpoint, match="not a file of plain PyTorch weights"):
        load_vgg16(str(path))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"no weights"])
def test_a_file_that_is_no_pth(tmp_path, content):
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    with pytest.raises(BadCheckpoint):
        load_vgg16(str(path))


@pytest.mark.parametrize(
    "shapes",
    [
        {"0.weight": (8, 3, 3, 3)},  # its bias is missing
        {"0.weight": (8, 3, 3, 3), "0.bias": (8,)},
        {"0.weight": (64, 3, 3, 3), "0.bias": (64,), "5.weight": (128, 64, 3, 3), "5.bias": (128,)},  # one between is
        {"classifier.weight": (10, 10)},
    ],
)
def test_weights_of_another_network(tmp_path, shapes):
    path = tmp_path / "other.pth"
    torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    with pytest.raises(BadCheckpoint, match="does not hold VGG16's convolutions"):
        load_vgg16(str(path))


def test_a_path_where_nothing_lies(tmp_path):
    with pytest.raises(NotFound, match="`bundled`, `imagenet`"):
        load_vgg16(str(tmp_path / "none.pth"))


@pytest.fixture
def imagenet(whole, tmp_path, monkeypatch):
    """torchvision's weights as a file that its loader can be pointed to, under a name that holds its hash."""
    from torchvision.models import VGG16_Weights

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    source = tmp_path / "weights.pth"
    torch.save(torchvision_state(whole), source)
    source = source.rename(tmp_path / f"vgg16_features-{module.file_sha256(source)[:8]}.pth")

    def point_to(url: str) -> None:
        monkeypatch.setattr(VGG16_Weights.IMAGENET1K_FEATURES.value, "url", url)

    point_to(source.as_uri())
    return source, point_to


def test_imagenet_is_fetched_by_torchvisions_loader(whole, imagenet, tmp_path):
    source, _ = imagenet
    loaded = load_vgg16("imagenet")
    assert torch.equal(loaded.convs["relu5_3"].weight, whole.convs["relu5_3"].weight)
    assert (tmp_path / "hub/checkpoints" / source.name).exists()
    source.unlink()
    assert load_vgg16("imagenet").sha256 == loaded.sha256  # from the hub's cache


def test_imagenet_out_of_reach_says_what_to_do(imagenet):
    _, point_to = imagenet
    point_to("http://127.0.0.1:9/vgg16_features-00000000.pth")  # nothing listens there
    with pytest.raises(Unavailable, match=r"put it at .*vgg16_features-00000000\.pth.*bundled"):
        load_vgg16("imagenet")


def test_imagenet_with_a_wrong_hash_is_refused(imagenet, tmp_path):
    source, point_to = imagenet
    other = tmp_path / "vgg16_features-00000000.pth"
    shutil.copyfile(source, other)
    point_to(other.as_uri())
    with pytest.raises(Unavailable, match="hash"):
        load_vgg16("imagenet")
