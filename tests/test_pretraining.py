"""The loss network's own recipe: the classifier, the fold, the units, and the command."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from core.errors import BadParameter, NotFound
from core.recipes import PretrainParams
from core.vgg import VGG16, load_vgg16, save_vgg16
from worker.folding import DEVIATION, RMS, fold
from worker.pretraining import Classifier, pretrain, read_classes

PARAMS = PretrainParams(sizes="32x2", batch=4, lr=0.01)


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """TinyImageNet's layout with two classes that their colours tell apart, 8 pictures to train on and 4 held out."""
    path = tmp_path_factory.mktemp("archive") / "tiny.tar.gz"
    random = np.random.default_rng(0)
    with tarfile.open(path, "w:gz") as tar:

        def add(name, data):
            member = tarfile.TarInfo(f"tiny-imagenet-200/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))

        def picture(channel):
            pixels = random.integers(0, 60, (64, 64, 3), np.uint8)
            pixels[..., channel] += 150
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG")
            return file.getvalue()

        for channel, name in ((0, "n01"), (2, "n02")):
            for number in range(4):
                add(f"train/{name}/images/{name}_{number}.JPEG", picture(channel))
        add("val/val_annotations.txt", b"".join(b"val_%d.JPEG\tn0%d\t0\t0\t9\t9\n" % (k, 1 + k % 2) for k in range(4)))
        for number in range(4):
            add(f"val/images/val_{number}.JPEG", picture(2 * (number % 2)))
    return path


@pytest.fixture(scope="session")
def classes(archive, tmp_path_factory):
    return read_classes(archive, tmp_path_factory.mktemp("classes"))


def test_the_archive_is_read_with_its_labels(archive, classes, tmp_path):
    assert classes.pictures.shape == (8, 3, 64, 64)
    assert classes.held_out_labels.tolist() == [0, 1, 0, 1]
    for pictures, labels in ((classes.pictures, classes.labels), (classes.held_out, classes.held_out_labels)):
        reds = pictures[:, 0].mean((1, 2)) > pictures[:, 2].mean((1, 2))
        assert reds.tolist() == [label == 0 for label in labels.tolist()]
    read_classes(archive, tmp_path)
    kept = read_classes(tmp_path / "gone.tar.gz", tmp_path)  # its pixels are here
    assert np.array_equal(kept.pictures, classes.pictures)
    with pytest.raises(NotFound, match="fetch tinyimagenet"):
        read_classes(tmp_path / "gone.tar.gz", tmp_path / "empty")
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(archive.read_bytes()[:2000])
    with pytest.raises(BadParameter, match=r"broken\.tar\.gz cannot be read"):
        read_classes(broken, tmp_path / "empty")
    assert not list((tmp_path / "empty").glob("*"))


def test_a_run_that_is_stopped_ends_with_the_same_weights(classes, tmp_path):
    whole = pretrain(PARAMS, classes, tmp_path / "whole")
    seen = []
    assert pretrain(PARAMS, classes, tmp_path / "run", should_stop=lambda: True, on_step=seen.append) is None
    assert [step.number for step in seen] == [1]
    again = pretrain(PARAMS, classes, tmp_path / "run", on_step=seen.append)
    assert [(step.number, step.total) for step in seen] == [(k, 4) for k in (1, 2, 3, 4)]
    assert seen[-1].accuracy == again[1] == whole[1]
    for (name, a), b in zip(whole[0].state_dict().items(), again[0].state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    with pytest.raises(BadParameter, match="other parameters"):
        pretrain(PARAMS.model_copy(update={"lr": 0.5}), classes, tmp_path / "run")
    with pytest.raises(BadParameter, match="less than a batch"):
        pretrain(PARAMS.model_copy(update={"batch": 9}), classes, tmp_path / "other")


def test_it_learns(classes, tmp_path):
    losses = []
    params = PretrainParams(sizes="32x15", batch=4, lr=0.003, mixup=0)
    pretrain(params, classes, tmp_path, on_step=lambda step: losses.append(step.loss))
    assert np.mean(losses[-4:]) < 0.45  # guessing costs 0.69, and 0.20 is the least with smoothed labels


@pytest.fixture(scope="module")
def features():
    """VGG16 with batch norm whose channels are loud and quiet, as training leaves them."""
    torch.manual_seed(0)
    net = Classifier(2).features
    for layer in net:
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 5)
            torch.nn.init.normal_(layer.bias)
    return net


def test_the_fold_computes_the_same_up_to_the_units(features):
    photographs = torch.rand(6, 3, 64, 64) * 255
    vgg = fold(features, photographs)
    folded = vgg(photographs, RMS)
    x = (photographs - vgg.mean) / DEVIATION
    names = iter(RMS)
    with torch.no_grad():
        for layer in features:
            x = layer(x)
            if isinstance(layer, torch.nn.ReLU):
                name = next(names)
                ours = folded[name]
                scale = ours.square().mean((0, 2, 3)).sqrt() / x.square().mean((0, 2, 3)).sqrt().clamp(min=1e-9)
                error = (ours - x * scale.view(1, -1, 1, 1)).abs().max() / ours.abs().max()
                assert error < 1e-3, name


def test_every_channel_has_the_units_of_its_layer(features):
    photographs = torch.rand(6, 3, 64, 64) * 255
    vgg = fold(features, photographs)
    for name, found in vgg(photographs, RMS).items():
        rms = found.square().mean((0, 2, 3)).sqrt()
        assert rms.max() < 1.01 * RMS[name], name
        assert rms.median() == pytest.approx(RMS[name], rel=0.01), name


def test_a_loss_network_survives_its_file(features, tmp_path):
    photographs = torch.rand(2, 3, 64, 64) * 255
    vgg = fold(features, photographs)
    save_vgg16(tmp_path / "own.safetensors", vgg, "{}")
    read = load_vgg16(str(tmp_path / "own.safetensors"))
    assert len(read.sha256) == 64
    a, b = vgg(photographs, ["relu2_2"])["relu2_2"], read(photographs, ["relu2_2"])["relu2_2"]
    assert (a - b).abs().max() < 0.01 * a.abs().max()
    assert isinstance(read, VGG16)


def test_the_command(impasto, archive, tmp_path, monkeypatch):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (70, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    command = ("pretrain-vgg16", "--data", archive, "--photographs", folder, "--batch", 4, "--out", "own.safetensors")
    status, out, errors = impasto(*command, "--sizes", "32x1")
    assert status == 0, errors
    assert "IMPASTO_VGG16=own.safetensors" in out
    with safe_open("own.safetensors", "numpy") as file:
        assert '"images":8' in file.metadata()["card"]
    assert load_vgg16("own.safetensors").source == "own.safetensors"
    status, _, errors = impasto(*command, "--sizes", "16x1")
    assert status == 2 and "32 px at least" in errors
