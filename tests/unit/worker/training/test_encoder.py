"""VGG16Net's encoder, made small and quickly, and the one in the clone."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from impasto.cli import main
from impasto.core.errors import BadParameter
from impasto.core.names import CHANNELS
from impasto.core.nets.vgg import load_vgg16
from impasto.core.nets.weights import ENCODER
from impasto.training.encoder import EncoderCard
from impasto.worker.training.encoder import DEPTH, Step, train_encoder
from impasto.worker.training.photographs import Batches


def card_of(path: Path) -> EncoderCard:
    with safe_open(path, "numpy") as file:
        return EncoderCard.model_validate_json(file.metadata()["card"])


@pytest.fixture
def pictures(photo, tmp_path) -> list[Path]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(2):
        Image.fromarray(photo[:, :: 1 - 2 * k]).save(folder / f"{k}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr("impasto.worker.training.encoder.SIZE", 48)
    monkeypatch.setattr("impasto.worker.training.encoder.BATCH", 2)


def test_the_first_five_convolutions_stay_and_four_more_learn(small, networks, pictures):
    steps: list[Step] = []
    batches = Batches(pictures, 64, 0, augment=True)
    encoder = train_encoder(networks, batches, 8, on_step=steps.append)
    other = train_encoder(networks, batches, 1)
    names = list(encoder.convs)
    assert len(names) == DEPTH
    for name in names[:5]:
        assert torch.equal(encoder.convs[name].weight, networks.vgg.convs[name].weight)
    for name in names[5:]:  # both began alike
        assert not torch.equal(encoder.convs[name].weight, other.convs[name].weight)
    assert [step.number for step in steps] == list(range(1, 9))
    assert set(steps[0].losses) == {"pixels", "detail", "depicted", "total"}
    assert sum(step.losses["total"] for step in steps[-3:]) < sum(step.losses["total"] for step in steps[:3])
    assert not any(p.requires_grad for p in encoder.parameters())


def test_a_loss_that_is_no_number_ends_it(small, networks, pictures, monkeypatch):
    monkeypatch.setattr("impasto.worker.training.encoder.PIXELS", float("nan"))
    with pytest.raises(BadParameter, match="loss of step 1 is nan"):
        train_encoder(networks, Batches(pictures, 64, 0, augment=True), 2)


def test_it_is_written_with_its_card_and_read_again(small, pictures, networks, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "encoder.safetensors"
    command = ["impasto", "train-encoder", "--data", str(pictures[0].parent), "--steps", "1", "--seed", "3"]
    monkeypatch.setattr("sys.argv", [*command, "--out", str(out)])
    main()
    card = card_of(out)
    assert (card.images, card.steps, card.seed, card.loss_networks_sha256) == (2, 1, 3, networks.sha256)
    assert str(out) in capsys.readouterr().out
    assert [*load_vgg16(str(out)).convs] == [*CHANNELS][:DEPTH]
    picture = torch.rand(1, 3, 64, 64) * 255
    ours, theirs = (net(picture, ["relu3_1"])["relu3_1"] for net in (load_vgg16(str(out)), networks.vgg))
    assert (ours - theirs).square().mean() < 0.03 * theirs.var()  # in 8 bits


def test_the_one_in_the_clone_begins_as_the_loss_network(encoder, vgg, networks):
    card = card_of(ENCODER.path)
    assert card.loss_networks_sha256 == networks.sha256
    picture = torch.rand(1, 3, 64, 64) * 255
    ours, theirs = (net(picture, ["relu3_1"])["relu3_1"] for net in (encoder, vgg))
    assert (ours - theirs).square().mean() < 0.03 * theirs.var()  # in 8 bits
