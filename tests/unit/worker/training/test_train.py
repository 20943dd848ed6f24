import csv
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from impasto.core.errors import BadParameter, NotFound
from impasto.core.files import file_sha256
from impasto.core.losses.gram_files import StyleTargets, style_targets
from impasto.core.losses.networks import LossNetworks, load_loss_networks
from impasto.core.losses.objective import Objective, ReportObjective
from impasto.core.losses.style_image import StyleImage
from impasto.core.nets.checkpoints import Zoo, load, read_card, save
from impasto.core.nets.vgg import _TORCHVISION, VGG16, save_vgg16
from impasto.core.nets.weights import ENCODER, check_recipe
from impasto.core.params import ALGORITHM_2, NETWORK, STYLE_LAYERS, TrainParams
from impasto.core.recipes import PARENTS, TABLE_1, recipe, twenty
from impasto.core.settings import ROOT
from impasto.worker.training import train as training
from impasto.worker.training.losses_csv import read_log, start_log
from impasto.worker.training.plots import plot_losses
from impasto.worker.training.train import Stage, plan, reproduction_loss, train

TINY = {
    "arch": "aonet",
    "dataset": "mine",
    "style": "plain",
    "size": 128,
    "batch": 1,
    "steps": 6,
    "style_size": 64,
}
"""Two steps of giving the photograph back, four on half the size, and two."""

SHORT = TINY | {"size": 64, "steps": 3}
LOSSES = {*Objective.TERMS, "total"}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No 150 steps before the first that counts."""
    monkeypatch.setattr(training, "REPRODUCTION", 2)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for k in range(3):
        small = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((100, 80), Image.Resampling.BICUBIC).save(folder / f"{k}.png")
    return sorted(folder.iterdir())


STYLE = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def style(vgg) -> StyleTargets:
    return style_targets(StyleImage(STYLE, "0" * 64), 64, NETWORK.scales, STYLE_LAYERS, vgg)


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters() if p.requires_grad])


def stop_after(number: int):
    """(should_stop, on_step) of a run that is stopped after so many steps."""
    seen = []
    return (lambda: len(seen) >= number), (lambda step: seen.append(step.number))


def without_seconds(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_a_run_that_was_stopped_gives_the_same_weights_bit_for_bit(photographs, style, networks, tmp_path):
    params = TrainParams(**TINY)
    whole = train(params, photographs, style, networks, tmp_path / "whole")
    for stop in (1, 3, 3):  # within each stage
        should_stop, on_step = stop_after(stop)
        folder = tmp_path / "parts"
        assert train(params, photographs, style, networks, folder, should_stop=should_stop, on_step=on_step) is None
    parts = train(params, photographs, style, networks, tmp_path / "parts")
    assert whole
    assert parts
    assert torch.equal(weights(whole[0]), weights(parts[0]))
    rows = without_seconds(read_log(tmp_path / "whole"))
    assert rows == without_seconds(read_log(tmp_path / "parts"))
    assert [(row["step"], row["main"]) for row in rows] == [(k, float(k > 2)) for k in range(1, 9)]


@pytest.mark.slow
def test_interrupted_by_a_signal(photographs, networks, tmp_path):
    """As a user would: the command, Ctrl-C, the command again."""
    Image.fromarray(STYLE).save(tmp_path / "style.png")
    command = [
        sys.executable, "-m", "impasto", "train", "--arch", "aonet", "--dataset", "mine", "--style", "plain",
        "--data", str(photographs[0].parent), "--style-image", str(tmp_path / "style.png"), "--style-size", "64",
        "--size", "64", "--batch", "1", "--steps", "45", "--warm-start", "aonet/mine/start",
    ]  # fmt: skip
    start_from, about = train(TrainParams(**SHORT | {"steps": 1}), photographs, *judges(networks), tmp_path / "start")
    save(tmp_path / "models/aonet/mine/start.safetensors", start_from, about)
    environment = os.environ | {
        "IMPASTO_CACHE": str(tmp_path / "cache"),
        "IMPASTO_MODELS": str(tmp_path / "models"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }

    def start(name: str) -> subprocess.Popen[bytes]:
        more = ["--run", str(tmp_path / name), "--out", str(tmp_path / f"{name}-models")]
        return subprocess.Popen([*command, *more], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)

    assert start("whole").wait() == 0
    process = start("parts")
    log = tmp_path / "parts/losses.csv"
    while not log.exists() or len(log.read_text().splitlines()) < 28:
        assert process.poll() is None, "it ended before it could be interrupted"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert 27 <= torch.load(tmp_path / "parts/state.pt", weights_only=True)["done"] < 45
    assert start("parts").wait() == 0
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts")]
    assert states[0]["net"].keys() == states[1]["net"].keys()
    assert all(torch.equal(value, states[1]["net"][name]) for name, value in states[0]["net"].items())
    assert (tmp_path / "parts-models/aonet/mine/plain.safetensors").is_file()
    assert (tmp_path / "parts-models/aonet/mine/plain.csv").is_file()
    assert (tmp_path / "parts-models/aonet/mine/plain.png").is_file()


def judges(networks: LossNetworks) -> tuple[StyleTargets, LossNetworks]:
    return style_targets(StyleImage(STYLE, "0" * 64), 64, NETWORK.scales, STYLE_LAYERS, networks.vgg), networks


def test_it_learns(photographs, style, networks, tmp_path):
    params = TrainParams(**SHORT | {"steps": 20, "lr": 3e-3})
    trained = train(params, photographs, style, networks, tmp_path)
    assert trained
    rows = [row for row in read_log(tmp_path) if row["main"]]
    assert np.mean([row["total"] for row in rows[-3:]]) < 0.8 * np.mean([row["total"] for row in rows[:3]])


def test_it_learns_to_give_the_photograph_back(photographs, style, networks, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "REPRODUCTION", 12)
    monkeypatch.setattr(training, "RISING", 3)
    train(TrainParams(**SHORT | {"steps": 12, "lr": 3e-3}), photographs, style, networks, tmp_path)
    rows = [row for row in read_log(tmp_path) if not row["main"]]
    assert len(rows) == 12
    assert all(row["style"] == row["coarse"] == 0 for row in rows)  # not looked at yet
    assert np.mean([row["total"] for row in rows[-3:]]) < 0.7 * rows[0]["total"]


def test_its_card_says_how_it_was_made(photographs, style, networks, tmp_path):
    trained = train(TrainParams(**SHORT), photographs, style, networks, tmp_path)
    assert trained
    card = trained[1]
    assert card.params == TrainParams(**SHORT)
    assert (card.images, card.folders) == (3, {photographs[0].parent.name: 3})
    assert (card.loss_network, card.loss_network_sha256) == ("bundled", networks.vgg.sha256)
    assert (card.encoder_sha256, card.warm_start_sha256) == (None, None)
    assert card.bits == 16
    assert set(card.first_losses) == set(card.last_losses) == LOSSES
    rows = [row for row in read_log(tmp_path) if row["main"]]
    assert card.last_losses["style"] == pytest.approx(np.mean([row["style"] for row in rows]))
    assert card.style_sha256 == style.sha256
    assert card.machine


def test_a_vgg16_learns_around_its_encoder_and_is_kept_in_8_bits(photographs, style, networks, encoder, tmp_path):
    params = TrainParams(**SHORT | {"arch": "vgg16", "steps": 1})
    trained = train(params, photographs, style, networks, tmp_path / "run")
    assert trained
    net, card = trained
    assert (card.bits, card.encoder_sha256) == (8, ENCODER.sha256)
    assert all(torch.equal(v, encoder.state_dict()[k]) for k, v in net.encoder.state_dict().items())
    save(tmp_path / "vgg16.safetensors", net, card)
    assert read_card(tmp_path / "vgg16.safetensors") == card
    again = load(tmp_path / "vgg16.safetensors")
    assert torch.equal(again.encoder.convs["relu4_2"].weight, encoder.convs["relu4_2"].weight)


def test_one_epoch_unless_told(photographs, style, networks, tmp_path):
    trained = train(TrainParams(**SHORT | {"steps": None}), photographs, style, networks, tmp_path)
    assert trained
    assert trained[1].params.steps == 3


def test_a_run_of_other_parameters_is_left_alone(photographs, style, networks, tmp_path):
    should_stop, on_step = stop_after(1)
    train(TrainParams(**SHORT), photographs, style, networks, tmp_path, should_stop=should_stop, on_step=on_step)
    before = (tmp_path / "losses.csv").read_bytes()
    with pytest.raises(BadParameter, match="other parameters, 1 steps done"):
        train(TrainParams(**SHORT | {"seed": 1}), photographs, style, networks, tmp_path)
    with pytest.raises(BadParameter, match="other photographs"):
        train(TrainParams(**SHORT), photographs[:2], style, networks, tmp_path)
    other = LossNetworks(VGG16("bundled", "ff", 5), networks.squeezenet)
    with pytest.raises(BadParameter, match="other loss networks"):
        train(TrainParams(**SHORT), photographs, style, other, tmp_path)
    assert (tmp_path / "losses.csv").read_bytes() == before


def test_a_loss_that_is_no_number_ends_the_training(photographs, style, networks, tmp_path):
    broken = StyleTargets(
        tuple({k: torch.full_like(m, torch.nan) for k, m in scale.items()} for scale in style.grams),
        style.colours,
        style.sha256,
        style.size,
    )
    with pytest.raises(BadParameter, match=r"The loss of step 3 is nan\. Try a lower lr"):
        train(TrainParams(**SHORT), photographs, broken, networks, tmp_path)
    assert len(read_log(tmp_path)) == 2


def test_a_run_goes_on_with_a_version_that_has_another_parameter_and_loss(photographs, style, networks, tmp_path):
    should_stop, on_step = stop_after(3)
    params = TrainParams(**SHORT)
    train(params, photographs, style, networks, tmp_path, should_stop=should_stop, on_step=on_step)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    fields = json.loads(state["identity"]["parameters"])
    assert fields.pop("tv_weight") == TrainParams.model_fields["tv_weight"].default
    state["identity"]["parameters"] = json.dumps(fields)
    torch.save(state, tmp_path / "state.pt")
    log = (tmp_path / "losses.csv").read_text().splitlines()
    rows = [{k: v for k, v in row.items() if k != "excess"} for row in csv.DictReader(log)]
    with (tmp_path / "losses.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    assert train(params, photographs, style, networks, tmp_path)
    after = (tmp_path / "losses.csv").read_text().splitlines()
    assert after[0] == log[0]
    assert list(csv.DictReader(after))[:3] == [row | {"excess": "0"} for row in rows]
    assert [row["step"] for row in read_log(tmp_path)] == list(range(1, 6))


def test_rows_of_steps_that_were_not_saved_are_dropped(photographs, style, networks, tmp_path):
    should_stop, on_step = stop_after(2)
    params = TrainParams(**SHORT)
    train(params, photographs, style, networks, tmp_path, should_stop=should_stop, on_step=on_step)
    with (tmp_path / "losses.csv").open("a") as file:
        file.write("3,0,1,1,1,1,1,1,1,1,1\n4,0,1,1")  # as a kill leaves it
    assert train(params, photographs, style, networks, tmp_path)
    assert [row["step"] for row in read_log(tmp_path)] == list(range(1, 6))


def test_the_log_has_a_column_for_each_term(tmp_path):
    for objective, columns in (
        (Objective, "step,main,style,coarse,depicted,detail,tv,excess,total,lr,seconds"),
        (ReportObjective, "step,main,content,style,tv,total,lr,seconds"),
    ):
        folder = tmp_path / objective.__name__
        folder.mkdir()
        start_log(folder, 0, objective.TERMS)
        assert (folder / "losses.csv").read_text() == columns + "\n"
        assert read_log(folder) == []


def test_previews_and_curves(photographs, style, networks, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "PREVIEW_EVERY", 4)
    train(TrainParams(**SHORT | {"steps": 8}), photographs, style, networks, tmp_path)
    assert sorted(p.name for p in tmp_path.glob("preview-*.png")) == [f"preview-{k:06d}.png" for k in (4, 8, 10)]
    plot_losses(tmp_path, tmp_path / "losses.png", "plain")
    with Image.open(tmp_path / "preview-000010.png") as preview, Image.open(tmp_path / "losses.png") as curves:
        assert preview.size == (256, 128)  # photograph and painting
        assert curves.size == (1000, 400)


def test_the_first_stage_does_not_ask_for_brightness():
    picture = torch.rand(1, 3, 64, 64) * 100
    copy = picture - picture.mean((2, 3), keepdim=True) + 127.5
    assert reproduction_loss(picture, copy) == 0
    assert reproduction_loss(picture, copy + 64) == pytest.approx(1)


def test_the_stages_of_a_training(monkeypatch):
    monkeypatch.setattr(training, "REPRODUCTION", 150)
    names = {"arch": "aonet", "dataset": "mine", "style": "plain"}
    params = TrainParams(**names, steps=1400)
    assert plan(params) == [
        Stage(150, 128, 4, main=False),
        Stage(933, 128, 4),
        Stage(467, 256, 2),
    ]
    warm = params.model_copy(update={"warm_start": "aonet/coco/wave"})
    assert plan(warm) == [Stage(933, 128, 4), Stage(467, 256, 2)]
    assert plan(params.model_copy(update={"steps": 1, "size": 100})) == [Stage(1, 64, 4, main=False), Stage(1, 64, 4)]
    report = params.model_copy(update={"recipe": "report", "steps": 7})
    assert plan(report) == [Stage(7, 256, 2)]


def rates(params: TrainParams) -> list[float]:
    stages = plan(params)
    parts = training._remaining(stages, 0)
    return [training._rate(params, stages, stage, within, k) for k, (stage, within, _) in enumerate(parts)]


def test_the_learning_rate_rises_and_falls_as_a_cosine(monkeypatch):
    monkeypatch.setattr(training, "REPRODUCTION", 100)
    names = {"arch": "aonet", "dataset": "mine", "style": "plain"}
    found = rates(TrainParams(**names, steps=300, lr=2e-3))
    assert found[:3] == pytest.approx([4e-5, 8e-5, 12e-5])  # to the whole in 50 steps
    assert found[49:101] == pytest.approx([2e-3] * 52)
    assert found[250] == pytest.approx(2e-3 * (0.03 + 0.97 / 2))
    assert found[-1] == pytest.approx(2e-3 * 0.03, rel=0.01)
    assert all(one > other for one, other in pairwise(found[100:]))
    assert rates(TrainParams(**names, recipe="report", steps=5, lr=2e-3)) == [2e-3] * 5


def test_every_picture_comes_once_across_stages():
    stages = [Stage(2, 64, 4, main=False), Stage(3, 64, 4), Stage(2, 128, 2)]
    steps = list(training._remaining(stages, 0))
    firsts, sizes = zip(*((first, stage.batch) for stage, _, first in steps), strict=True)
    assert list(firsts) == [sum(sizes[:k]) for k in range(len(steps))]
    assert list(training._remaining(stages, 4)) == steps[4:]


def test_a_shift_depends_on_the_seed_and_the_step_alone():
    found = [training.shift_of(0, step) for step in range(200)]
    assert found == [training.shift_of(0, step) for step in range(200)]
    assert found != [training.shift_of(1, step) for step in range(200)]
    for values in zip(*found, strict=True):
        assert set(values) == set(range(training.SHIFTS))


def test_table_1():
    assert TABLE_1 == {
        ("aonet", "coco"): {"content_weight": 17, "style_weight": 50, "content_layers": ("relu2_2",)},
        ("aonet", "tinyimagenet"): {"content_weight": 17, "style_weight": 50, "content_layers": ("relu1_2",)},
        ("vgg16", "coco"): {"content_weight": 17, "style_weight": 50, "content_layers": ("relu2_2",)},
        ("vgg16", "tinyimagenet"): {"content_weight": 1, "style_weight": 5, "content_layers": ("relu1_2",)},
    }
    report = recipe("aonet", "coco", "wave", "report")
    assert (report.size, report.batch, report.lr, report.tv_weight, report.steps) == (256, 4, 1e-3, 0, None)
    assert (report.style_layers, report.scales) == (ALGORITHM_2, 1)
    assert recipe("vgg16", "tinyimagenet", "rain_princess", "report").size == 224
    assert recipe("vgg16", "tinyimagenet", "udnie", "report").size == 256
    assert recipe("vgg16", "coco", "rain_princess", "report").size == 256
    own = recipe("aonet", "mine", "own", "report", size=128)
    assert (own.size, own.content_weight, own.content_layers) == (128, 17, ("relu2_2",))


def test_our_recipe():
    ours = recipe("aonet", "coco", "wave")
    assert (ours.recipe, ours.size, ours.batch, ours.steps) == ("ours", 256, 2, 1400)
    assert (ours.weights, ours.style_layers, ours.scales) == (NETWORK, STYLE_LAYERS, 3)
    udnie = recipe("aonet", "coco", "udnie", warm_start="aonet/coco/wave")
    assert (udnie.steps, udnie.style_weight) == (600, 20)
    assert recipe("vgg16", "coco", "wave").steps == 2000
    assert recipe("vgg16", "coco", "udnie", warm_start="vgg16/coco/wave").steps == 800
    tiny = recipe("vgg16", "tinyimagenet", "wave", warm_start="vgg16/coco/wave")
    assert (tiny.size, tiny.steps) == (160, 300)
    assert recipe("aonet", "mine", "own", steps=7).steps == 7


def test_the_twenty_models():
    report = twenty("report")
    assert len({(row.arch, row.dataset, row.style) for row in report}) == len(report) == 20
    assert all(row == recipe(row.arch, row.dataset, row.style, "report") for row in report)
    ours = twenty()
    assert [row.warm_start for row in ours if (row.dataset, row.style) == ("coco", "wave")] == [None, None]
    trained = set()
    for row in ours:  # each starts from one that was trained before it
        assert row.recipe == "ours"
        assert row.warm_start is None or row.warm_start in trained
        trained.add(f"{row.arch}/{row.dataset}/{row.style}")
    assert len(trained) == 20
    assert {row.style for row in twenty(arch="vgg16", dataset="coco")} == set(PARENTS)
    assert [row.steps for row in twenty(arch="vgg16", style="udnie", steps=7)] == [7, 7]


def test_the_models_in_the_clone_were_trained_as_the_table_says():
    rows = {(row.arch, row.dataset, row.style): row for row in twenty()}
    shipped = Zoo(ROOT / "models").entries()
    assert shipped.keys() == rows.keys()
    for names, entry in shipped.items():
        assert entry.card.params == rows[names], names


def test_a_warm_start_begins_with_the_weights_of_its_checkpoint(photographs, style, networks, models, tmp_path):
    params = TrainParams(**(SHORT | {"warm_start": "aonet/coco/plain", "steps": 1, "lr": 1e-9}))
    warm = Zoo(models).warm_start(params)
    net, card = train(params, photographs, style, networks, tmp_path / "run", warm=warm)
    assert torch.allclose(weights(net), weights(load(warm).requires_grad_(True)), atol=1e-6)
    assert card.warm_start_sha256 == file_sha256(warm)
    assert [row["main"] for row in read_log(tmp_path / "run")] == [1]  # it can paint already
    with pytest.raises(BadParameter, match="other parameters and warm start"):
        train(params.model_copy(update={"warm_start": None}), photographs, style, networks, tmp_path / "run")


def test_where_torch_computes_in_bfloat16(photographs, style, networks, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "has_bfloat16", lambda device: True)
    trained = train(TrainParams(**(SHORT | {"steps": 2})), photographs, style, networks, tmp_path)
    assert trained
    assert weights(trained[0]).dtype == torch.float32
    assert all(np.isfinite(row["total"]) for row in read_log(tmp_path))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_the_reports_recipe_with_a_whole_vgg16_of_a_file(suffix, whole, photographs, tmp_path):
    path = tmp_path / f"whole.{suffix}"
    if suffix == "safetensors":
        save_vgg16(path, whole, "{}")
    else:
        state = {
            f"{at}.{kind}": getattr(conv, kind).data
            for at, conv in zip(_TORCHVISION, whole.convs.values(), strict=True)
            for kind in ("weight", "bias")
        }
        torch.save(state | {"0.weight": state["0.weight"].flip(1)}, path)  # Caffe's are of BGR
    networks = load_loss_networks(str(path))
    params = recipe("aonet", "mine", "plain", "report", size=64, batch=1, steps=2, style_size=64, lr=1e-4)
    targets = style_targets(StyleImage(STYLE, "0" * 64), 64, params.scales, params.style_layers, networks.vgg)
    trained = train(params, photographs, targets, networks, tmp_path / "run")
    assert trained
    card = trained[1]
    assert set(card.last_losses) == {*ReportObjective.TERMS, "total"}
    assert (card.loss_network, card.loss_network_sha256) == (path.name, file_sha256(path))
    rows = read_log(tmp_path / "run")
    assert [(row["step"], row["main"], row["lr"]) for row in rows] == [(1, 1, 1e-4), (2, 1, 1e-4)]
    assert all(row["tv"] == 0 and row["content"] > 0 and row["style"] > 0 for row in rows)


def test_the_reports_recipe_needs_a_whole_vgg16(photographs, style, networks, tmp_path):
    with pytest.raises(BadParameter, match="needs a whole VGG16, and the bundled one ends at relu3_1"):
        check_recipe("report", "bundled")
    for kind, source in (("report", "imagenet"), ("ours", "bundled"), ("report", "/some/vgg16.pth")):
        check_recipe(kind, source)
    params = recipe("aonet", "mine", "plain", "report", size=64, batch=1, steps=1)
    with pytest.raises(BadParameter, match=r"'bundled' ends at relu3_1, and relu3_3, relu4_3 is deeper"):
        train(params, photographs, style, networks, tmp_path)
    with pytest.raises(BadParameter, match=r"'bundled' ends at relu3_1, and relu3_3, relu4_3 is deeper"):
        style_targets(StyleImage(STYLE, "0" * 64), 64, params.scales, params.style_layers, networks.vgg)


def test_a_warm_start_must_fit(models):
    with pytest.raises(ValidationError, match="do not fit vgg16"):
        TrainParams(**(TINY | {"arch": "vgg16", "warm_start": "aonet/coco/plain"}))
    with pytest.raises(ValidationError, match="warm_start"):
        TrainParams(**(TINY | {"warm_start": "aonet/../plain"}))
    with pytest.raises(BadParameter, match="upsample=nearest, and its weights do not fit upsample=deconv"):
        Zoo(models).warm_start(TrainParams(**(TINY | {"upsample": "deconv", "warm_start": "aonet/coco/plain"})))
    with pytest.raises(NotFound, match="Did you mean 'aonet/coco/plain"):
        Zoo(models).warm_start(TrainParams(**(TINY | {"warm_start": "aonet/coco/plane"})))


def test_there_must_be_something_to_learn():
    with pytest.raises(ValidationError, match="both 0: there is nothing to learn"):
        TrainParams(**(TINY | {"content_weight": 0, "style_weight": 0}))
    for gone in ("lattice_weight", "warmup", "grain", "learns"):
        with pytest.raises(ValidationError, match=gone):
            TrainParams(**(TINY | {gone: None}))
