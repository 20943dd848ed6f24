import json
import struct
import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from core.checkpoints import Card, Zoo, dequantise, load, own_weights, place, quantise, read_card, save
from core.errors import BadCheckpoint, NotFound
from core.nets import PIXEL_MEAN, PIXEL_SCALE, build
from core.weights import ENCODER
from tests.conftest import card


def test_a_checkpoint_rebuilds_its_network(tmp_path, vgg):
    net = build("aonet").eval()
    about = card(vgg)
    path = place(tmp_path, about.params)
    save(path, net, about)
    again = load(path)
    picture = torch.rand(1, 3, 32, 32) * 255
    torch.testing.assert_close(again(picture), net(picture), atol=1.0, rtol=0)  # float16: of 255
    assert read_card(path) == about
    assert not any(p.requires_grad for p in again.parameters())


def test_vgg16_is_kept_without_its_frozen_part_in_8_bits(models, encoder):
    path = models / "vgg16/coco/plain.safetensors"
    assert path.stat().st_size < 11_000_000  # 10.1 M values, a byte each
    net = load(path)
    assert torch.equal(net.encoder.convs["relu4_2"].weight, encoder.convs["relu4_2"].weight)


def test_8_bits_are_within_half_a_step():
    kernel = torch.randn(5, 4, 3, 3) * torch.tensor([1e-3, 1, 10, 1e-6, 0]).view(5, 1, 1, 1)
    packed = quantise({"layer.weight": kernel, "layer.bias": torch.ones(5)})
    assert packed["layer.weight"].dtype == torch.int8
    assert packed["layer.bias"].dtype == torch.float16
    again = dequantise(packed)
    assert set(again) == {"layer.weight", "layer.bias"}
    step = kernel.abs().flatten(1).amax(1) / 127
    assert ((again["layer.weight"] - kernel).abs().flatten(1).amax(1) <= 0.6 * step + 1e-7).all()


@pytest.mark.parametrize(
    "hashes",
    [
        {"encoder_sha256": "f" * 64},
        {"encoder_sha256": None, "loss_network_sha256": "f" * 64},  # older: the encoder was the loss network
    ],
)
def test_another_vgg16_than_it_was_trained_with_is_refused(hashes, tmp_path, vgg, encoder):
    about = card(vgg, "vgg16", bits=8).model_copy(update=hashes)
    path = place(tmp_path, about.params)
    save(path, build("vgg16", encoder), about)
    with pytest.raises(BadCheckpoint, match="another VGG16"):
        load(path)


BEFORE = {
    "params": {
        "arch": "aonet",
        "dataset": "coco",
        "style": "wave",
        "upsample": "nearest",
        "size": 256,
        "enlarged": 1,
        "batch": 1,
        "steps": 1000,
        "lr": 0.001,
        "lr_fall": 0.7,
        "output_lr": 64.0,
        "clip": 1.0,
        "content_weight": 1.0,
        "style_weight": 4.0,
        "style_from": None,
        "tv_weight": 0.5,
        "lattice_weight": 200.0,
        "content_layers": ["relu3_3", "relu4_2"],
        "normalise": True,
        "warmup": [{"steps": 2, "size": 64, "batch": 2, "lr": 0.002, "style_weight": None}],
        "warm_start": "aonet/coco/wave",
        "learns": "around",
        "grain": 10.0,
        "augment": True,
        "seed": 0,
    },
    "style_sha256": "0" * 64,
    "images": 335,
    "loss_network": "bundled",
    "loss_network_sha256": ENCODER.sha256,
    "first_losses": {"total": 2.0, "lattice": 1.0},
    "last_losses": {"total": 1.0, "lattice": 0.5},
    "created": "2026-11-27T01:14:00Z",
}
"""A card from before the objective of today; of a style's size it says nothing."""


def test_a_card_from_before_says_what_is_still_known():
    found = Card.model_validate_json(json.dumps(BEFORE))
    assert (found.grain, found.pixels) == (10, True)
    p = found.params
    assert (p.recipe, p.steps, p.style_weight, p.style_size) == ("ours", 1000, 4, 384)
    assert (p.content_layers, p.warm_start) == (("relu3_3", "relu4_2"), "aonet/coco/wave")
    sized = BEFORE | {"params": BEFORE["params"] | {"style_size": 320, "grain": None}}
    found = Card.model_validate(sized)
    assert (found.params.style_size, found.grain, found.pixels) == (320, None, True)
    again = Card.model_validate_json(found.model_dump_json())  # as it is written today
    assert again == found


def test_a_card_of_today_has_no_parameter_that_is_none(vgg):
    about = card(vgg)
    assert (about.pixels, about.grain, about.params.recipe) == (False, None, "ours")
    written = json.loads(about.model_dump_json())
    assert Card.model_validate(written) == about
    written["params"]["lattice_weight"] = 1
    with pytest.raises(ValidationError, match="lattice_weight"):
        Card.model_validate(written)


@pytest.mark.parametrize(
    ("arch", "upsample"), [("aonet", "nearest"), ("aonet", "deconv"), ("vgg16", "nearest"), ("vgg16", "deconv")]
)
def test_a_network_from_before_paints_what_it_painted(arch, upsample, tmp_path, encoder):
    """Its last convolution spoke in levels of 0..255, around 0."""
    torch.manual_seed(0)
    net = build(arch, encoder, upsample).eval()
    levels = own_weights(net)
    last = f"layers.{len(net.layers) - 1}"
    levels[f"{last}.bias"] = levels[f"{last}.bias"] * PIXEL_SCALE + PIXEL_MEAN
    levels[f"{last}.weight"] = levels[f"{last}.weight"] * PIXEL_SCALE
    before = BEFORE | {"params": BEFORE["params"] | {"arch": arch, "upsample": upsample, "warm_start": None}}
    path = tmp_path / "before.safetensors"
    save_file({k: v.contiguous() for k, v in levels.items()}, path, {"card": json.dumps(before)})
    again = load(path)
    picture = torch.rand(1, 3, 32, 40) * 255
    with torch.no_grad():
        torch.testing.assert_close(again(picture), net(picture), atol=0.01, rtol=0)
    assert read_card(path).pixels


def test_a_network_from_before_in_8_bits_is_as_near_as_any(tmp_path, encoder):
    torch.manual_seed(0)
    net = build("vgg16", encoder).eval()
    levels = own_weights(net)
    last = f"layers.{len(net.layers) - 1}"
    levels[f"{last}.bias"] = levels[f"{last}.bias"] * PIXEL_SCALE + PIXEL_MEAN
    levels[f"{last}.weight"] = levels[f"{last}.weight"] * PIXEL_SCALE
    path, today = tmp_path / "before.safetensors", tmp_path / "today.safetensors"
    before = BEFORE | {"params": BEFORE["params"] | {"arch": "vgg16", "warm_start": None}, "bits": 8}
    save_file({k: v.contiguous() for k, v in quantise(levels).items()}, path, {"card": json.dumps(before)})
    save(today, net, Card.model_validate(before).model_copy(update={"pixels": False}))
    last = f"{last}.weight"
    mine, wanted = load(path).state_dict()[last], load(today).state_dict()[last]
    torch.testing.assert_close(mine, wanted, atol=float(wanted.abs().max()) / 64, rtol=0)


@pytest.mark.parametrize("content", [b"", b"nothing", struct.pack("<Q", 10**12) + b"{}"])
def test_a_file_that_is_no_checkpoint(tmp_path, content):
    path = tmp_path / "aonet/coco/bad.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(BadCheckpoint, match="not a checkpoint of ours"):
        read_card(path)
    assert Zoo(tmp_path).entries() == {}


def test_weights_that_do_not_fit(tmp_path, vgg):
    path = tmp_path / "odd.safetensors"
    save_file({"layers.0.weight": torch.zeros(1)}, path, {"card": card(vgg).model_dump_json()})
    with pytest.raises(BadCheckpoint, match="does not fit its network"):
        load(path)
    weights = own_weights(build("aonet"))
    weights["more"] = torch.zeros(1)
    save_file(weights, path, {"card": card(vgg).model_dump_json()})
    with pytest.raises(BadCheckpoint, match="other names"):
        load(path)


def test_a_write_that_fails_leaves_what_was_there(tmp_path, vgg, monkeypatch):
    about = card(vgg)
    path = place(tmp_path, about.params)
    save(path, build("aonet"), about)
    before = path.read_bytes()

    def full_disk(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        save(path, build("aonet"), about)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["plain.safetensors"]


def test_the_zoo_lists_and_finds(models):
    zoo = Zoo(models, models / "none")
    assert set(zoo.entries()) == {("aonet", "coco", "plain"), ("vgg16", "coco", "plain")}
    assert zoo.find("aonet", "coco", "plain").path == models / "aonet/coco/plain.safetensors"


@pytest.mark.parametrize(
    ("style", "nearest"),
    [
        ("plian", "aonet/coco/plain"),
        ("plain\0", "aonet/coco/plain"),
        ("../../../etc/passwd", None),
        ("", None),
        ("/", None),
    ],
)
def test_an_unknown_model_is_answered_with_those_there_are(models, style, nearest):
    with pytest.raises(NotFound) as error:
        Zoo(models).find("aonet", "coco", style)
    assert error.value.extra["known"] == ["aonet/coco/plain", "vgg16/coco/plain"]
    assert error.value.extra["nearest"] == nearest


def test_the_zoo_sees_files_come_and_go(tmp_path, models):
    zoo = Zoo(models, tmp_path)
    new = tmp_path / "aonet/mine/new.safetensors"
    new.parent.mkdir(parents=True)
    new.write_bytes((models / "aonet/coco/plain.safetensors").read_bytes())
    assert ("aonet", "mine", "new") in zoo.entries()
    new.unlink()
    assert ("aonet", "mine", "new") not in zoo.entries()


def test_a_card_that_is_wrong_spoils_no_other(tmp_path, models, vgg):
    good = tmp_path / "aonet/coco/good.safetensors"
    good.parent.mkdir(parents=True)
    good.write_bytes((models / "aonet/coco/plain.safetensors").read_bytes())
    wrong = card(vgg).model_dump_json().replace("relu2_2", "relu9_9")
    save_file({"x": torch.zeros(1)}, good.with_name("wrong.safetensors"), {"card": wrong})
    good.with_name("dangling.safetensors").symlink_to(tmp_path / "nowhere")
    good.with_name(".good.safetensors.half.safetensors").write_bytes(b"")
    assert list(Zoo(tmp_path).entries()) == [("aonet", "coco", "good")]


def test_listing_reads_headers_and_imports_no_torch(tmp_path, vgg):
    about = card(vgg)
    path = tmp_path / "aonet/coco/plain.safetensors"
    path.parent.mkdir(parents=True)
    header = json.dumps(
        {"__metadata__": {"card": about.model_dump_json()}, "x": {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    code = (
        "import sys, pathlib; from core.checkpoints import Zoo; "
        f"print(len(Zoo(pathlib.Path({str(tmp_path)!r})).entries()), 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["1", "False"]
