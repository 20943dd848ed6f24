import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import load_file

from impasto import cli
from impasto.core.nets.checkpoints import Card, read_card
from impasto.core.paint_params import PaintParams
from impasto.core.params import GatysParams, TrainParams
from impasto.core.settings import ROOT, Settings


def test_stylize_a_photograph(impasto, photo_file, photo):
    output = photo_file.with_name("out.jpg")
    status, out, _ = impasto("stylize", photo_file, "--style", "plain", "-o", output)
    assert (status, out.strip()) == (0, str(output))
    with Image.open(output) as image:
        assert (image.format, image.size) == ("JPEG", (50, 37))


def test_compare_writes_one_sheet(impasto, photo_file):
    status, out, _ = impasto("compare", photo_file, "--style", "plain")
    assert status == 0
    with Image.open(out.strip()) as image:
        assert image.width > 100 and image.height > 74


def test_stylize_beside_the_photograph_unless_told(impasto, photo_file, photo):
    assert impasto("stylize", photo_file, "--style", "plain", "--strength", "0")[0] == 0
    with Image.open(photo_file.with_name("photo-plain.png")) as image:
        np.testing.assert_array_equal(np.asarray(image), photo)


def test_stylize_a_folder_passes_over_what_is_broken(impasto, photo, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(photo).save(folder / "a.png")
    Image.fromarray(photo).save(folder / "c.JPG", "JPEG")
    (folder / "b.jpg").write_bytes(b"broken")
    (folder / "notes.txt").write_text("not a picture")
    status, _, errors = impasto("stylize", folder, "--style", "plain", "-o", tmp_path / "out", "--max-side", "30")
    assert status == 2
    assert "b.jpg" in errors
    assert "1 of 3 pictures could not be painted" in errors
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]


def test_hidden_files_of_a_folder_are_passed_over(impasto, photo, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(photo).save(folder / "photo.jpg")
    (folder / "._photo.jpg").write_bytes(b"\0\5\x16\7 of macOS")
    (folder / ".hidden.png").write_bytes(b"")
    status, _, errors = impasto("stylize", folder, "--style", "plain", "-o", tmp_path / "out")
    assert (status, errors) == (0, "")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo.png"]


@pytest.mark.parametrize("command", ["stylize", "compare"])
def test_own_pictures_have_no_limit_but_memory(impasto, photo_file, tmp_path, monkeypatch, command):
    for limit in ("PIXELS", "SIDE", "BYTES"):
        monkeypatch.setenv(f"IMPASTO_MAX_{limit}", "20")
    painted = tmp_path / "painted.png"
    arguments = (photo_file, "--style", "plain", "-o", painted)
    assert impasto(command, *arguments)[0] == 0
    with Image.open(painted) as image:
        assert image.size == (50, 37) or command == "compare"
    monkeypatch.setenv("IMPASTO_MEMORY", "70000")  # 40 bytes a pixel are 74,000
    status, _, errors = impasto(command, *arguments)
    assert status != 0
    assert "The picture takes" in errors


def test_a_folder_loses_no_original_and_no_painting(impasto, photo, tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "a.jpg", "b.webp"):
        Image.fromarray(photo).save(folder / name)
    (folder / "folder.jpg").mkdir()
    monkeypatch.chdir(folder)
    status, _, errors = impasto("stylize", ".", "--style", "plain", "-o", ".")
    assert status == 2
    assert "need one of their own" in errors
    assert impasto("stylize", ".", "--style", "plain")[0] == 0
    assert sorted(p.name for p in (tmp_path / "photos-plain").iterdir()) == ["a.jpg.png", "a.png.png", "b.png"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--style", "plan"], "Did you mean 'aonet/coco/plain"),
        (["--style", "plain", "--strength", "2"], "--strength: Input should be less than or equal to 1"),
        (["--style", "plain", "--paint-size", "half"], "--paint-size"),
        (["--style", "plain", "-o", "out.gif"], ".png, .jpg, .jpeg, .webp"),
        (["--style", "plain", "-o", "photo.png"], "the photograph itself"),
        ([], "Missing option '--style'"),
    ],
)
def test_stylize_says_what_is_wrong(impasto, photo_file, arguments, says, monkeypatch):
    monkeypatch.chdir(photo_file.parent)
    before = sorted(photo_file.parent.iterdir())
    status, _, errors = impasto("stylize", photo_file, *arguments)
    assert status == 2
    assert says in errors
    assert sorted(photo_file.parent.iterdir()) == before


@pytest.fixture
def style_file(tmp_path: Path) -> Path:
    path = tmp_path / "sunset.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path)
    return path


QUICK = ("--size", "32", "--num-iterations", "3")


def test_paint_in_a_style_by_name(impasto, photo_file, monkeypatch):
    monkeypatch.setenv("IMPASTO_MODELS", str(ROOT / "models"))
    output = photo_file.with_name("out.jpg")
    status, out, errors = impasto("paint", photo_file, "--style", "wave", "-o", output, *QUICK)
    assert (status, out.strip()) == (0, str(output))
    assert "style=" in errors  # the progress, with its losses
    with Image.open(output) as image:
        assert (image.format, image.size) == ("JPEG", (50, 37))


def test_paint_in_the_style_of_pictures(impasto, photo_file, style_file, photo):
    pictures = ("--style-image", style_file, "--style-image", photo_file, "--style-blend", "3", "--style-blend", "1")
    changes = ("--style-scale", "0.25", "--init", "style", "--preserve-color")
    status, out, _ = impasto("paint", photo_file, *pictures, *changes, *QUICK)
    painting = photo_file.with_name("photo-sunset.png")
    assert (status, out.strip()) == (0, str(painting))
    with Image.open(painting) as image:
        assert (np.asarray(image) != photo).any()


def test_ctrl_c_keeps_the_best_picture_so_far(impasto, photo_file, style_file, monkeypatch):
    from impasto.core.gatys import optimise

    def interrupted(*arguments, on_step, **options):
        def on_step_and_ctrl_c(step):
            on_step(step)
            if step.number == 2:
                signal.raise_signal(signal.SIGINT)

        return paint_pixels(*arguments, on_step=on_step_and_ctrl_c, **options)

    paint_pixels = optimise.paint_pixels
    monkeypatch.setattr(optimise, "paint_pixels", interrupted)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    status, out, _ = impasto("paint", photo_file, "--style-image", style_file, "--style-scale", "0.25", *QUICK)
    painting = photo_file.with_name("photo-sunset.png")
    assert status == 130
    assert f"Stopped after 2 of 3 steps; the best picture so far is {painting}" in out
    assert painting.is_file()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Neither was given"),
        (["--style", "wave", "--style-image", "photo.png"], "Both were given"),
        (["--style", "wavy"], "Did you mean 'wave"),
        (["--style", "wave", "--style-scale", "2"], "style_scale needs the style's pictures"),
        (["--style", "wave", "--recipe", "report"], "IMPASTO_VGG16"),
        (["--style", "wave", "--size", "16"], "--size: Input should be greater than or equal to 32"),
        (["--style-image", "nowhere.jpg"], "no picture at nowhere.jpg"),
        (["--style-image", "photo.png", "--style-blend", "1", "--style-blend", "2"], "2 weights for 1 style pictures"),
        (["--style", "wave", "-o", "photo.png"], "the photograph itself"),
        (["--style", "wave", "-o", "out.gif"], ".png, .jpg, .jpeg, .webp"),
    ],
)
def test_paint_says_what_is_wrong(impasto, photo_file, arguments, says, monkeypatch):
    monkeypatch.chdir(photo_file.parent)
    monkeypatch.setenv("IMPASTO_MODELS", str(ROOT / "models"))
    before = sorted(photo_file.parent.iterdir())
    status, _, errors = impasto("paint", photo_file, *arguments)
    assert status == 2
    assert says in errors
    assert sorted(photo_file.parent.iterdir()) == before


def test_models_lists_the_models(impasto, models):
    status, out, _ = impasto("models")
    assert status == 0
    assert "aonet/coco/plain: 1 steps of 2 at 256 px, content 1, style 12" in out
    cards = json.loads(impasto("models", "--json")[1])
    assert cards["aonet/coco/plain"]["params"]["steps"] == 1


def test_models_shows_the_card_of_one(impasto, models):
    path = models / "aonet/coco/plain.safetensors"
    status, out, _ = impasto("models", "aonet/coco/plain")
    assert status == 0
    shown = dict(line.split(maxsplit=1) for line in out.splitlines() if line)
    assert shown["file"] == str(path) and shown["recipe"] == "ours" and shown["batch"] == "2"
    assert shown["content_layers"] == "relu2_2" and shown["warm_start"] == "none" and shown["last_losses"] == "total 1"
    assert out.rstrip().endswith(f"impasto train --again {path}")
    status, out, _ = impasto("models", "aonet/coco/plain", "--json")
    assert (status, Card.model_validate_json(out)) == (0, read_card(path))
    status, _, errors = impasto("models", "aonet/coco/plian")
    assert status == 2 and "Did you mean 'aonet/coco/plain'?" in errors


def test_without_models_an_error_says_where_they_come_from(impasto, tmp_path, photo_file, monkeypatch):
    monkeypatch.setenv("IMPASTO_MODELS", str(tmp_path / "none"))
    for command in (
        ("stylize", photo_file, "--style", "wave"),
        ("compare", photo_file),
        ("models", "aonet/coco/wave"),
        ("models",),
    ):
        status, _, errors = impasto(*command)
        assert status == 2
        assert f"There are no models in {tmp_path / 'none'} or" in errors
        assert "set IMPASTO_MODELS to its folder models/" in errors


def test_wrong_settings_are_named(impasto, monkeypatch):
    monkeypatch.setenv("IMPASTO_SLOTS", "none")
    status, _, errors = impasto("models")
    assert status == 2
    assert "IMPASTO_SLOTS" in errors


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("STORE", "mysql://x", "mysql:// is not known here. Use redis://"),
        ("STORAGE", "ftp://x", "ftp:// is not known here. Use s3://"),
        ("ORIGINS", "https://a.example, b.example", "'b.example' is not valid. Write https://example.org"),
        ("HOSTS", "http://x", "'http://x' is not valid"),
        ("FORWARDED", "proxy", "'proxy' is not valid. Write 10.0.0.5"),
    ],
)
def test_settings_that_would_be_passed_over_are_refused(impasto, monkeypatch, name, value, said):
    monkeypatch.setenv(f"IMPASTO_{name}", value)
    status, _, errors = impasto("models")
    assert status == 2
    assert f"IMPASTO_{name}" in errors and said in errors


def test_the_port_may_come_from_a_hosting_platform(impasto, monkeypatch):
    monkeypatch.setenv("PORT", "8123")
    assert Settings().port == 8123
    monkeypatch.setenv("IMPASTO_PORT", "none")
    status, _, errors = impasto("models")
    assert status == 2
    assert "IMPASTO_PORT (" in errors
    monkeypatch.setenv("IMPASTO_PORT", "8124")
    assert Settings().port == 8124


def test_models_are_converted_ahead(impasto, models, cache, tmp_path, monkeypatch):
    shutil.copytree(models, tmp_path / "models")
    monkeypatch.setenv("IMPASTO_MODELS", str(tmp_path / "models"))
    status, out, errors = impasto("convert")
    assert (status, out.split()) == (0, ["aonet/coco/plain", "vgg16/coco/plain"]), errors
    assert len(list((tmp_path / "models/engine").glob("*/model.xml"))) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--style", "nosuch", "--data", "."], "Known: rain_princess"),
        (["--style", "wave"], "impasto data fetch"),
        (["--style", "wave", "--data", "nowhere"], "no folder or archive of photographs at nowhere"),
        (["--style", "own", "--style-image", "nowhere.jpg"], "no picture at nowhere.jpg"),
        (["--style", "wave", "--style-size", "100", "--data", "."], "style_image"),
        (["--style", "wave", "--lr", "0"], "--lr"),
        (["--style", "wave", "--lr", "inf"], "--lr"),
        (["--style", "wave", "--style-weight", "0", "--content-weight", "0"], "nothing to learn"),
        (["--style", "wave", "--recipe", "report", "--data", "."], "IMPASTO_VGG16"),
        (["--style", "wave", "--content-layers", "relu9_9"], "relu9_9"),
        (["--style", "../wave"], "--style"),
    ],
)
def test_train_says_what_is_wrong(impasto, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMPASTO_MODELS", str(ROOT / "models"))
    status, _, errors = impasto("train", "--arch", "aonet", "--dataset", "coco", *arguments)
    assert status == 2, errors
    assert says in errors
    assert not list(tmp_path.iterdir())


@pytest.fixture
def datasets(photo, tmp_path, monkeypatch):
    """The report's names for two pictures, and the real models, whose styles have names."""
    for name in ("coco", "tinyimagenet"):
        folder = tmp_path / "datasets" / name
        folder.mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.roll(photo, number, 0)).save(folder / f"{number}.png")
    monkeypatch.setenv("IMPASTO_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("IMPASTO_MODELS", str(ROOT / "models"))
    monkeypatch.chdir(tmp_path)


SMALL = ("--size", 64, "--batch", 1, "--steps", 1)


def test_train_table_1_passes_over_what_is_there(impasto, datasets, tmp_path):
    rows = ("train", "--table1", "--recipe", "ours", "--arch", "aonet", "--style", "udnie", *SMALL, "--out", "zoo")
    status, out, errors = impasto(*rows)
    assert status == 0, errors
    trained = [tmp_path / "zoo/aonet" / dataset / "udnie.safetensors" for dataset in ("coco", "tinyimagenet")]
    assert [read_card(path).params.warm_start for path in trained] == ["aonet/coco/wave", "aonet/coco/udnie"]
    trained[1].unlink()
    written = trained[0].stat().st_mtime_ns
    status, out, errors = impasto(*rows)
    assert status == 0, errors
    assert "zoo/aonet/coco/udnie.safetensors exists" in out
    assert trained[0].stat().st_mtime_ns == written and trained[1].exists()


def test_train_again_from_a_card_gives_the_same_network(impasto, datasets, tmp_path):
    model = ("train", "--arch", "aonet", "--dataset", "coco", "--style", "udnie", *SMALL)
    assert impasto(*model, "--out", "first")[0] == 0
    card = "first/aonet/coco/udnie.safetensors"
    status, _, errors = impasto("train", "--again", card, "--out", "second", "--run", "runs/again")
    assert status == 0, errors
    assert "another network" not in errors
    first, second = (load_file(tmp_path / out / "aonet/coco/udnie.safetensors") for out in ("first", "second"))
    assert all((first[name] == second[name]).all() for name in first)


def test_train_again_from_another_start_is_said(impasto, datasets, tmp_path):
    model = ("train", "--arch", "aonet", "--dataset", "coco", *SMALL, "--out", "zoo")
    assert impasto(*model, "--style", "wave")[0] == 0
    assert impasto(*model, "--style", "udnie", "--warm-start", "aonet/coco/wave")[0] == 0
    again = ("train", "--again", "zoo/aonet/coco/udnie.safetensors", "--out", "zoo", "--run", "runs/again")
    status, _, errors = impasto(*again)
    assert status == 0 and "another network" not in errors, errors
    assert impasto(*model, "--style", "wave", "--seed", "1", "--run", "runs/other")[0] == 0
    status, _, errors = impasto(*again[:-1], "runs/once-more")
    assert status == 0, errors
    assert "udnie.safetensors started from another file than" in errors


def test_a_trial_lays_five_weights_side_by_side(impasto, datasets, tmp_path, monkeypatch):
    monkeypatch.setattr("impasto.training.trial.STEPS", 1)
    model = ("--arch", "aonet", "--dataset", "coco", "--style", "udnie", "--warm-start", "aonet/coco/wave")
    status, _, errors = impasto("train", "--trial", "--recipe", "ours", *model, *SMALL)
    assert status == 0, errors
    with Image.open("runs/aonet-coco-udnie-trial/trial.png") as image:
        assert image.width > 3 * 512 and image.height > 2 * 512
    weights = {path.name for path in Path("runs/aonet-coco-udnie-trial").glob("style-*")}
    assert weights == {"style-5", "style-10", "style-20", "style-40", "style-80"}
    assert not Path("data/styles").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--arch", "aonet"], "Give --dataset, --style, or --table1"),
        (["--table1", "--style-image", "wave.jpg"], "--table1 finds styles by name"),
        (["--table1", "--style", "wvae"], "Table 1 has no model with this"),
        (["--again", str(ROOT / "models/aonet/coco/wave.safetensors"), "--lr", "1"], "takes every parameter"),
    ],
)
def test_train_says_which_options_do_not_go_together(impasto, arguments, says):
    status, _, errors = impasto("train", *arguments)
    assert status == 2
    assert says in errors


def test_a_taken_port_says_what_to_do(impasto):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, _, errors = impasto("serve", "--port", taken.getsockname()[1])
    assert status == 2
    assert "choose another: impasto serve --port" in errors


def test_keep_style(impasto, photo_file, tmp_path):
    status, out, _ = impasto("keep-style", "mine", photo_file, "--out", tmp_path)
    assert status == 0
    assert Path(out.strip()) == tmp_path / "styles/mine.safetensors"
    assert impasto("keep-style", "../mine", photo_file, "--out", tmp_path)[0] == 2


def test_help_shows_every_option_with_its_default():
    text = CliRunner().invoke(cli.cli, ["stylize", "--help"]).output
    for name in set(PaintParams.model_fields) - {"format"}:
        assert "--" + name.replace("_", "-") in text
    assert "[default: 1280]" in text
    text = CliRunner().invoke(cli.cli, ["train", "--help"]).output
    for name in TrainParams.model_fields:
        assert "--" + name.replace("_", "-") in text


def test_help_of_paint_shows_every_option_with_its_default():
    text = CliRunner().invoke(cli.cli, ["paint", "--help"], terminal_width=500).output
    for name in GatysParams.model_fields:
        assert "--" + name.replace("_", "-") in text
    assert "[default: recoloured]" in text
    assert "[default: 0]" in text
    assert "[default: ]" not in text


def test_help_comes_before_torch():
    code = (
        "import sys; from impasto.cli import cli; cli(['--help'], standalone_mode=False); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.split()[-1] == "False"
