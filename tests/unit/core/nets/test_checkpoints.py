import json
import struct
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from impasto.core.errors import BadCheckpoint, NotFound
from impasto.core.nets.checkpoints import Zoo, load, own_weights, place, read_card, save
from impasto.core.nets.painters import build
from impasto.core.settings import ROOT
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


def test_another_encoder_than_it_was_trained_around_is_refused(tmp_path, vgg, encoder):
    about = card(vgg, "vgg16", bits=8).model_copy(update={"encoder_sha256": "f" * 64})
    path = place(tmp_path, about.params)
    save(path, build("vgg16", encoder), about)
    with pytest.raises(BadCheckpoint, match="another encoder"):
        load(path)


def test_a_card_of_another_version(vgg, tmp_path, caplog):
    """Unknown fields are ignored, with one warning; a field that is missing or wrong hides the model, with one."""
    about = card(vgg)
    written = json.loads(about.model_dump_json()) | {"brush": "wide", "grain": None, "pixels": False}
    written["params"] |= {"lattice_weight": 1, "shift_weight": 0}
    path = place(tmp_path, about.params)
    path.parent.mkdir(parents=True)
    save_file({"layers.0.weight": torch.zeros(1)}, path, {"card": json.dumps(written)})
    zoo = Zoo(tmp_path)
    assert [entry.card for _ in range(2) for entry in zoo.entries().values()] == [about, about]
    assert read_card(path) == about
    written["params"]["size"] = "large"
    save_file({"layers.0.weight": torch.zeros(1)}, path, {"card": json.dumps(written)})
    assert zoo.entries() == zoo.entries() == {}
    ignored, hidden = (record.getMessage() for record in caplog.records)  # once, however often it is looked at
    assert ignored.endswith("does not know, and ignores: brush='wide', params.lattice_weight=1.")
    assert "of another version: params.size cannot be read. Train it again, or delete it" in hidden


def test_a_model_with_another_name_is_passed_over_with_a_warning(models, tmp_path, caplog):
    for name in ("aonet/coco/My Style", "anet/coco/wave", "aonet/coco/.wave"):
        path = tmp_path / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((models / "aonet/coco/plain.safetensors").read_bytes())
    zoo = Zoo(tmp_path)
    assert zoo.entries() == zoo.entries() == {}
    network, style = (record.getMessage() for record in caplog.records)
    assert "anet/coco/wave.safetensors is not named ARCH/DATASET/STYLE.safetensors, with aonet or vgg16 as" in network
    assert "My Style.safetensors is not named" in style


def test_the_models_in_the_clone_are_read_without_a_warning(caplog):
    assert len(Zoo(ROOT / "models").entries()) >= 20
    assert not caplog.records


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
        "import sys, pathlib; from impasto.core.nets.checkpoints import Zoo; "
        f"print(len(Zoo(pathlib.Path({str(tmp_path)!r})).entries()), 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["1", "False"]
