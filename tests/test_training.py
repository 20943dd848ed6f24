import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file
from worker.objective import Objective, reproduction

from core.checkpoints import Zoo, load, save
from core.errors import BadParameter, NotFound
from core.files import file_sha256
from core.names import STYLES
from core.nets import Net, Up, build
from core.recipes import STYLE_LAYERS, Stage, TrainParams
from core.settings import ROOT
from core.styles import StyleTargets, style_targets
from core.table1 import TABLE_1, recipe, twenty
from worker import training
from worker.log import LOSSES, read_log
from worker.plots import plot_losses
from worker.training import train

TINY = {
    "arch": "aonet",
    "dataset": "mine",
    "style": "plain",
    "size": 64,
    "batch": 1,
    "steps": 6,
    "warmup": (Stage(steps=2, size=64, batch=2, lr=2e-3), Stage(steps=2, size=64, batch=1, lr=1e-3, style_weight=0.5)),
    "normalise": True,
    "content_weight": 1,
    "style_from": 1,
    "style_weight": 5,
    "tv_weight": 0.1,
    "lattice_weight": 10,
    "checkerboard_weight": 10,
    "brightness_weight": 1,
    "style_tiles": 2,
    "excess_weight": 1,
    "leak": 0.1,
    "lr_fall": 0.5,
    "clip": 1,
    "augment": True,
    "tones": 0.3,
    "grain": 8,
    "clamp": True,
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for k in range(3):
        small = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((100, 80), Image.Resampling.BICUBIC).save(folder / f"{k}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def style(vgg) -> StyleTargets:
    rgb = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return style_targets(rgb, "0" * 64, 64, STYLE_LAYERS, vgg)


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters() if p.requires_grad])


def stop_after(number: int):
    """(should_stop, on_step) of a run that is stopped after so many steps."""
    seen = []
    return (lambda: len(seen) >= number), (lambda step: seen.append(step.number))


def test_a_run_that_was_stopped_gives_the_same_weights_bit_for_bit(photographs, style, vgg, tmp_path):
    params = TrainParams(**TINY)
    whole = train(params, photographs, style, vgg, tmp_path / "whole")
    for stop in (1, 3, 4):  # within each stage
        should_stop, on_step = stop_after(stop)
        assert (
            train(params, photographs, style, vgg, tmp_path / "parts", should_stop=should_stop, on_step=on_step) is None
        )
    parts = train(params, photographs, style, vgg, tmp_path / "parts")
    assert whole
    assert parts
    assert torch.equal(weights(whole[0]), weights(parts[0]))
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(tmp_path / "whole")]
    assert rows == [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(tmp_path / "parts")]
    assert [row["step"] for row in rows] == list(range(1, 11))


@pytest.mark.slow
def test_interrupted_at_step_37_by_a_signal(photographs, style, vgg, tmp_path):
    """As a user would: the command, Ctrl-C, the command again."""
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "style.png")
    command = [
        sys.executable, "-m", "impasto", "train", "--arch", "aonet", "--dataset", "mine", "--style", "plain",
        "--data", str(photographs[0].parent), "--style-image", str(tmp_path / "style.png"), "--style-size", "64",
        "--size", "64", "--batch", "1", "--steps", "45", "--content-weight", "1", "--normalise",
    ]  # fmt: skip
    environment = os.environ | {
        "IMPASTO_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }

    def start(name: str) -> subprocess.Popen[bytes]:
        more = ["--run", str(tmp_path / name), "--out", str(tmp_path / f"{name}-models")]
        return subprocess.Popen([*command, *more], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)

    assert start("whole").wait() == 0
    process = start("parts")
    log = tmp_path / "parts/losses.csv"
    while not log.exists() or len(log.read_text().splitlines()) < 38:
        assert process.poll() is None, "it ended before it could be interrupted"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert 37 <= torch.load(tmp_path / "parts/state.pt", weights_only=True)["done"] < 45
    assert start("parts").wait() == 0
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts")]
    assert states[0]["net"].keys() == states[1]["net"].keys()
    assert all(torch.equal(value, states[1]["net"][name]) for name, value in states[0]["net"].items())
    assert (tmp_path / "parts-models/aonet/mine/plain.safetensors").is_file()
    assert (tmp_path / "parts-models/aonet/mine/plain.csv").is_file()
    assert (tmp_path / "parts-models/aonet/mine/plain.png").is_file()


def test_it_learns(photographs, style, vgg, tmp_path):
    params = TrainParams(**TINY | {"steps": 12, "warmup": (), "style_from": None, "lr": 3e-3, "output_lr": 64})
    trained = train(params, photographs, style, vgg, tmp_path)
    assert trained
    rows = read_log(tmp_path)
    assert np.mean([row["total"] for row in rows[-3:]]) < 0.8 * np.mean([row["total"] for row in rows[:3]])


def test_its_card_says_how_it_was_made(photographs, style, vgg, tmp_path):
    trained = train(TrainParams(**TINY), photographs, style, vgg, tmp_path)
    assert trained
    card = trained[1]
    assert card.params.steps == 6
    assert card.images == 3
    assert (card.loss_network, card.loss_network_sha256) == ("bundled", vgg.sha256)
    assert set(card.first_losses) == set(card.last_losses) == set(LOSSES)


def test_one_epoch_unless_told(photographs, style, vgg, tmp_path):
    trained = train(TrainParams(**TINY | {"steps": None, "warmup": ()}), photographs, style, vgg, tmp_path)
    assert trained
    assert trained[1].params.steps == 3


def test_a_run_of_other_parameters_is_left_alone(photographs, style, vgg, tmp_path):
    should_stop, on_step = stop_after(1)
    train(TrainParams(**TINY), photographs, style, vgg, tmp_path, should_stop=should_stop, on_step=on_step)
    before = (tmp_path / "losses.csv").read_bytes()
    with pytest.raises(BadParameter, match="other parameters, 1 steps done"):
        train(TrainParams(**TINY | {"seed": 1}), photographs, style, vgg, tmp_path)
    with pytest.raises(BadParameter, match="other photographs"):
        train(TrainParams(**TINY), photographs[:2], style, vgg, tmp_path)
    assert (tmp_path / "losses.csv").read_bytes() == before


def test_style_is_judged_once_more_of_the_middle_and_values_beyond_what_is_seen_count(style, vgg):
    picture = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0)) * 255
    framed = picture.clone()
    framed[..., :8] = 300  # further from the middle than relu4_3 sees
    params = TrainParams(**TINY | {"size": 192, "excess_weight": 2, "warmup": ()})
    whole, both = (Objective(params.model_copy(update={"style_margin": px}), vgg, style) for px in (0, 56))
    plain, other = both(picture, picture, 2.0), both(picture, framed, 2.0)
    middles = [
        2 * judged["style"].item() - whole(picture, painting, 2.0)["style"].item()
        for judged, painting in ((plain, picture), (other, framed))
    ]
    assert middles[0] == pytest.approx(middles[1], rel=1e-3)
    assert other["style"] != plain["style"]
    assert other["content"] > plain["content"]
    assert plain["excess"] == 0
    assert other["excess"].item() == pytest.approx(2 * 45**2 / 24 / picture.var((2, 3), correction=0).mean().item())
    short = Stage(steps=1, size=64, batch=1, lr=1e-3, style_weight=1)
    for changes in ({"style_margin": 8}, {"size": 192, "style_margin": 24, "warmup": (short,)}):
        with pytest.raises(ValidationError, match="take a larger size"):
            TrainParams(**TINY | changes)


@pytest.mark.parametrize("leak", [0, 0.1])
def test_where_the_last_relu_is_shut_only_a_leak_lets_a_gradient_through(leak):
    net = build("aonet")
    norm = net.layers[-3]
    with torch.no_grad():
        norm.bias.fill_(-100)
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    before = net(picture)
    training._let_leak(net, leak)
    after = net(picture)
    assert torch.equal(after, before)
    after.mean().backward()
    assert bool(norm.bias.grad.any()) == bool(leak)


def test_tones_reach_the_pictures(photographs, style, vgg, tmp_path):
    for tones in (0, 0.5):
        params = TrainParams(**TINY | {"warmup": (), "steps": 1, "tones": tones})
        train(params, photographs, style, vgg, tmp_path / str(tones))
    assert read_log(tmp_path / "0")[0]["content"] != read_log(tmp_path / "0.5")[0]["content"]


def test_a_run_goes_on_with_a_version_that_has_another_parameter_and_loss(photographs, style, vgg, tmp_path):
    should_stop, on_step = stop_after(2)
    params = TrainParams(**TINY | {"brightness_weight": 0})
    train(params, photographs, style, vgg, tmp_path, should_stop=should_stop, on_step=on_step)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    state["identity"]["parameters"] = state["identity"]["parameters"].replace('"brightness_weight":0.0,', "")
    torch.save(state, tmp_path / "state.pt")
    log = (tmp_path / "losses.csv").read_text().splitlines()
    at = log[0].split(",").index("brightness")
    before = [",".join(part for k, part in enumerate(line.split(",")) if k != at) for line in log]
    (tmp_path / "losses.csv").write_text("\n".join([*before, ""]))
    assert train(params, photographs, style, vgg, tmp_path)
    assert (tmp_path / "losses.csv").read_text().splitlines()[:3] == log
    assert [row["step"] for row in read_log(tmp_path)] == list(range(1, 11))


def test_rows_of_steps_that_were_not_saved_are_dropped(photographs, style, vgg, tmp_path):
    should_stop, on_step = stop_after(2)
    params = TrainParams(**TINY)
    train(params, photographs, style, vgg, tmp_path, should_stop=should_stop, on_step=on_step)
    with (tmp_path / "losses.csv").open("a") as file:
        file.write("3,0,1,1,1,1,1,1,1,1\n4,0,1,1")  # as a kill leaves it
    assert train(params, photographs, style, vgg, tmp_path)
    assert [row["step"] for row in read_log(tmp_path)] == list(range(1, 11))


def test_previews_and_curves(photographs, style, vgg, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "PREVIEW_EVERY", 4)
    train(TrainParams(**TINY), photographs, style, vgg, tmp_path)
    assert sorted(p.name for p in tmp_path.glob("preview-*.png")) == [f"preview-{k:06d}.png" for k in (4, 8, 10)]
    plot_losses(tmp_path, tmp_path / "losses.png", "plain")
    with Image.open(tmp_path / "preview-000010.png") as preview, Image.open(tmp_path / "losses.png") as curves:
        assert preview.size == (256, 128)  # photograph and painting
        assert curves.size == (1000, 400)


def test_losses_of_the_photograph_itself(photographs, style, vgg):
    """Content and pixels of a perfect copy are free; normalised style is measured in the target's own mean square."""
    picture = torch.rand(2, 3, 64, 64) * 255
    losses = Objective(TrainParams(**TINY), vgg, style)(picture, picture, 2.0)
    assert losses["content"] == 0
    assert losses["brightness"].item() == pytest.approx(0, abs=1e-6)
    assert losses["total"] == sum(losses[name] for name in losses if name != "total")
    black = StyleTargets({k: torch.full_like(g, 1e-9) for k, g in style.grams.items()}, "", 64)
    assert Objective(TrainParams(**TINY), vgg, black)(picture, picture, 2.0)["style"] > 1e6


def test_a_clamped_painting_is_judged_as_it_is_seen_and_still_learns_from_beyond(style, vgg):
    photograph = torch.rand(1, 3, 64, 64) * 255
    beyond = (photograph * 2 - 128).requires_grad_()
    objectives = [
        Objective(TrainParams(**TINY | {"clamp": clamp, "excess_weight": 0}), vgg, style) for clamp in (True, False)
    ]
    clamped, free = (objective(photograph, beyond, 2.0)["total"] for objective in objectives)
    seen = objectives[1](photograph, beyond.detach().clamp(0, 255), 2.0)["total"]
    assert clamped.item() == pytest.approx(seen.item(), rel=1e-4) != free.item()
    clamped.backward()
    assert (beyond.grad[(beyond < 0) | (beyond > 255)] != 0).float().mean() > 0.9


def test_the_coarse_style_is_that_of_the_painting_as_it_is_seen_at_half_its_size(style, vgg):
    fine, both = (
        Objective(TrainParams(**TINY | {"coarse_weight": weight, "style_tiles": 1}), vgg, style) for weight in (0, 3)
    )
    painting = torch.rand(2, 3, 96, 97) * 400 - 70
    seen = painting.clamp(0, 255)[..., :96]
    small = (seen[..., ::2, ::2] + seen[..., 1::2, ::2] + seen[..., ::2, 1::2] + seen[..., 1::2, 1::2]) / 4
    wanted = fine(painting, painting, 2.0)["style"] + 3 * fine(small, small, 2.0)["style"]
    assert both(painting, painting, 2.0)["style"].item() == pytest.approx(wanted.item(), rel=1e-4)


def test_the_first_stage_does_not_ask_for_brightness():
    picture = torch.rand(1, 3, 64, 64) * 100
    copy = picture - picture.mean((2, 3), keepdim=True) + 127.5
    assert reproduction(picture, copy)["total"] == 0
    assert reproduction(picture, copy + 64)["total"] == pytest.approx(1)


def test_table_1():
    assert {
        key: (row["size"], row["content_weight"], row["style_weight"], row["content_layers"])
        for key, row in TABLE_1.items()
    } == {
        ("aonet", "coco"): (256, 17, 50, ("relu2_2",)),
        ("aonet", "tinyimagenet"): (256, 17, 50, ("relu1_2",)),
        ("vgg16", "coco"): (256, 17, 50, ("relu2_2",)),
        ("vgg16", "tinyimagenet"): (256, 1, 5, ("relu1_2",)),
    }
    default = recipe("aonet", "coco", "wave")
    assert (default.batch, default.lr, default.normalise, default.warmup, default.clip) == (4, 1e-3, False, (), None)
    assert recipe("vgg16", "tinyimagenet", "rain_princess").size == 224
    assert recipe("vgg16", "tinyimagenet", "udnie").size == 256
    assert recipe("vgg16", "coco", "rain_princess").size == 256
    assert recipe("aonet", "mine", "own", size=128).size == 128


def test_the_twenty_models():
    rows = twenty()
    assert len({(row.arch, row.dataset, row.style) for row in rows}) == len(rows) == 20
    assert all(row == recipe(row.arch, row.dataset, row.style) for row in rows)
    ours = twenty("ours")
    assert [row.warm_start for row in ours if (row.dataset, row.style) == ("coco", "wave")] == [None, None]
    trained = set()
    for row in ours:  # each starts from one that was trained before it
        assert row.warm_start is None or row.warm_start in trained
        assert bool(row.warmup) != bool(row.warm_start)
        trained.add(f"{row.arch}/{row.dataset}/{row.style}")
    assert {row.style for row in twenty("ours", arch="vgg16", dataset="coco")} == set(STYLES)
    assert [row.steps for row in twenty("ours", arch="vgg16", style="udnie", steps=7)] == [7, 7]


EXCEPTIONS = {
    ("aonet", "coco", "the_scream"): {"warm_start": "aonet/coco/the_scream", "leak": 0},
    ("aonet", "coco", "udnie"): {"warm_start": "aonet/coco/udnie"},
    ("aonet", "coco", "wave"): {
        "warm_start": "aonet/coco/wave",
        "steps": 1000,
        "size": 256,
        "style_weight": 4,
    },
    ("vgg16", "coco", "wave"): {"warm_start": "vgg16/coco/wave", "steps": 400},
    ("vgg16", "coco", "the_scream"): {"warm_start": "vgg16/coco/the_scream", "steps": 250},
    ("vgg16", "coco", "udnie"): {"warm_start": "vgg16/coco/udnie", "steps": 400},
    ("vgg16", "coco", "the_shipwreck"): {"warm_start": "vgg16/coco/the_shipwreck", "steps": 400},
    ("vgg16", "coco", "rain_princess"): {"warm_start": "vgg16/coco/rain_princess", "steps": 400, "learns": "decoder"},
}
"""Models in the clone that were trained once more from what they were, or before the table was as it is."""


def test_the_models_in_the_clone_were_trained_as_the_table_says():
    rows = {(row.arch, row.dataset, row.style): row for row in twenty("ours")}
    for names, other in EXCEPTIONS.items():
        rows[names] = recipe(*names, "ours", **({"warm_start": rows[names].warm_start} | other))
    shipped = Zoo(ROOT / "models").entries()
    assert shipped.keys() == rows.keys()
    for names, entry in shipped.items():
        assert entry.card.params == rows[names], names


def test_a_warm_start_begins_with_the_weights_of_its_checkpoint(photographs, style, vgg, models, tmp_path):
    params = TrainParams(**(TINY | {"warmup": (), "warm_start": "aonet/coco/plain", "steps": 1, "lr": 1e-9}))
    warm = Zoo(models).warm_start(params)
    net, card = train(params, photographs, style, vgg, tmp_path / "run", warm=warm)
    assert torch.allclose(weights(net), weights(load(warm).requires_grad_(True)), atol=1e-6)
    assert card.warm_start_sha256 == file_sha256(warm)
    with pytest.raises(BadParameter, match="other parameters and warm start"):
        train(params.model_copy(update={"warm_start": None}), photographs, style, vgg, tmp_path / "run")


@pytest.mark.parametrize("arch", ["aonet", "vgg16"])
@pytest.mark.parametrize(("learns", "up"), [("decoder", 0), ("end", 1)])
def test_a_decoder_or_its_end_learns_and_the_layers_below_stay(
    learns, up, arch, photographs, style, vgg, models, tmp_path
):
    changes = {"arch": arch, "warmup": (), "warm_start": f"{arch}/coco/plain", "steps": 2, "learns": learns}
    params = TrainParams(**(TINY | changes))
    warm = Zoo(models).warm_start(params)
    net, card = train(params, photographs, style, vgg, tmp_path / "run", warm=warm)
    save(tmp_path / "model.safetensors", net, card)
    before, after = load_file(warm), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name.split(".")[1] for name in before if not before[name].equal(after[name])}
    assert min(map(int, changed)) == [k for k, layer in enumerate(net.layers) if isinstance(layer, Up)][up]
    assert str(len(net.layers) - 1) in changed


MIDDLES = {
    "aonet": ["6", *(f"{k}.body.{conv}" for k in range(9, 14) for conv in (0, 3)), "14.conv"],
    "vgg16": ["0", "3", "6", "9", "12.conv"],
}
"""The convolutions of the layers that see or give the smallest size."""


@pytest.mark.parametrize("upsample", ["nearest", "deconv"])
@pytest.mark.parametrize("arch", MIDDLES)
def test_what_is_around_the_middle_lets_its_convolutions_stay(arch, upsample, vgg):
    net = build(arch, vgg, upsample)
    net.let_learn("around")
    convs = [name for name, w in net.layers.named_parameters() if name.endswith("weight") and not w.requires_grad]
    assert convs == [f"{name}.weight" for name in MIDDLES[arch]]


@pytest.mark.parametrize("arch", MIDDLES)
def test_what_is_around_the_middle_learns_and_its_convolutions_stay(arch, photographs, style, vgg, models, tmp_path):
    changes = {"arch": arch, "warmup": (), "warm_start": f"{arch}/coco/plain", "steps": 2, "learns": "around"}
    params = TrainParams(**(TINY | changes))
    warm = Zoo(models).warm_start(params)
    net, _ = train(params, photographs, style, vgg, tmp_path / "run", warm=warm)
    before = load(warm).layers
    layers = {name: layer for name, layer in net.layers.named_modules() if hasattr(layer, "weight")}
    stayed = [name for name, layer in layers.items() if layer.weight.equal(before.get_submodule(name).weight)]
    assert stayed == MIDDLES[arch]


@pytest.mark.parametrize("learns", ["around", "decoder", "end"])
def test_a_part_that_learns_needs_others_that_have_learnt(learns):
    with pytest.raises(ValidationError, match=f"learns is {learns}: that needs a warm_start"):
        TrainParams(**(TINY | {"learns": learns}))


def test_enlarged_pictures_where_torch_computes_in_bfloat16(photographs, style, vgg, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "has_bfloat16", lambda device: True)
    assert train(TrainParams(**(TINY | {"warmup": (), "steps": 1, "enlarged": 2})), photographs, style, vgg, tmp_path)


@pytest.mark.parametrize("enlarged", [1, 2])
def test_a_network_is_shown_training_pictures_as_large_as_stylize_shows_them(
    enlarged, photographs, style, vgg, tmp_path, monkeypatch
):
    shown = []
    forward = Net.forward
    monkeypatch.setattr(Net, "forward", lambda net, x: shown.append(tuple(x.shape[2:])) or forward(net, x))
    params = TrainParams(**(TINY | {"warmup": (), "steps": 2, "enlarged": enlarged}))
    train(params, photographs, style, vgg, tmp_path)
    assert shown == [(64 * enlarged,) * 2] * 2 + [(128 * enlarged,) * 2]  # two steps and a preview
    with Image.open(tmp_path / "preview-000002.png") as preview:
        assert preview.size == (256, 128)


def test_the_weave_of_an_enlarged_painting_is_half_as_coarse(style, vgg):
    """Judged where it is seen, on the shrunk painting: of VGG16Net's eight pixels four are left."""
    photograph = torch.full((1, 3, 64, 64), 128.0) + torch.rand(1, 3, 64, 64)
    columns = torch.arange(64.0).expand(1, 3, 64, 64)
    eight, four = (photograph + 40 * torch.cos(columns * 2 * torch.pi / period) for period in (8, 4))
    params = [TrainParams(**(TINY | {"arch": "vgg16", "enlarged": enlarged})) for enlarged in (1, 2)]
    seen_as_it_is, enlarged = (Objective(p, vgg, style) for p in params)
    assert enlarged(photograph, four, 1.0)["lattice"] > 10 * enlarged(photograph, eight, 1.0)["lattice"]
    assert seen_as_it_is(photograph, eight, 1.0)["lattice"] > 1


def test_a_warm_start_must_fit(models):
    with pytest.raises(ValidationError, match="do not fit vgg16"):
        TrainParams(**(TINY | {"arch": "vgg16", "warm_start": "aonet/coco/plain"}))
    with pytest.raises(ValidationError, match="warm_start"):
        TrainParams(**(TINY | {"warm_start": "aonet/../plain"}))
    with pytest.raises(BadParameter, match="upsample=nearest, not deconv"):
        Zoo(models).warm_start(TrainParams(**(TINY | {"upsample": "deconv", "warm_start": "aonet/coco/plain"})))
    with pytest.raises(NotFound, match="Did you mean aonet/coco/plain"):
        Zoo(models).warm_start(TrainParams(**(TINY | {"warm_start": "aonet/coco/plane"})))


@pytest.mark.parametrize(
    ("part", "lr", "weight"),
    [(0, 1e-3, 1), (150, 1e-3, 10**0.5), (300, 1e-3, 10), (450, 1e-3 * 0.05**0.5, 10), (599, 5e-5, 10)],
)
def test_schedule(part, lr, weight):
    params = TrainParams(arch="aonet", dataset="coco", style="wave", style_from=1, style_weight=10, lr_fall=0.5)
    found = training._schedule(params, Stage(steps=600, size=256, batch=4, lr=1e-3), part, main=True)
    assert found == (pytest.approx(lr, rel=0.02), pytest.approx(weight, rel=0.01))
