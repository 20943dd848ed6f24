"""The figures of networks whose paintings are known: the photograph itself, and its negative."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from impasto.core.losses.gram_files import style_targets
from impasto.core.losses.recolour import recoloured
from impasto.core.losses.style_image import StyleImage
from impasto.core.params import STYLE_LAYERS
from impasto.core.pictures.codec import Bytes
from impasto.worker.training.evaluation import FIGURES, PLAIN, evaluate, nyquist_energy
from impasto.worker.training.photographs import HELD_OUT, open_held_out


@pytest.fixture
def photographs(photo) -> list[Bytes]:
    rgb = photo[:32, :48].copy()
    return [rgb, rgb[:, ::-1].copy()]


@pytest.fixture
def style(vgg, photo):
    return style_targets(StyleImage(photo, "0" * 64), 32, PLAIN.scales, STYLE_LAYERS, vgg)


def test_of_a_network_that_gives_the_photograph_back(networks, style, photographs):
    found = evaluate(lambda shown: shown, photographs, style, networks)
    assert found.photographs == 2
    assert found.style == pytest.approx(found.photograph_style, rel=1e-5)
    assert found.coarse == pytest.approx(found.photograph_coarse, rel=1e-5)
    assert found.style > 0 and found.coarse > 0
    assert (found.detail, found.depicted) == pytest.approx((0, 0), abs=1e-9)
    assert found.checkerboard == pytest.approx(1)


def test_a_painting_of_the_style_itself_has_no_style_loss(vgg, networks, photographs):
    rgb = photographs[0]
    style = style_targets(StyleImage(rgb, "0" * 64), 32, PLAIN.scales, STYLE_LAYERS, vgg)
    found = evaluate(lambda shown: rgb, [255 - rgb], style, networks)
    assert found.style < 1e-6 < found.photograph_style
    assert found.detail > 0.1 and found.depicted > 0.1


def test_the_photograph_in_the_styles_colours_has_nothing_coarse_left(networks, style, photographs):
    def paint_in_its_colours(rgb: Bytes) -> Bytes:
        shown = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
        painting = recoloured(shown, style.colours)[0].round().clamp(0, 255)
        return painting.byte().permute(1, 2, 0).numpy()

    found = evaluate(paint_in_its_colours, photographs, style, networks)
    assert found.coarse < 0.02 * found.photograph_coarse + 0.002  # of what is cut off at 0 and 255


def test_lines_of_a_pixel_are_a_checkerboard(networks, style, photographs):
    def paint_in_lines(rgb: Bytes) -> Bytes:
        painting = rgb.copy()
        painting[::2] = 0
        return painting

    assert evaluate(paint_in_lines, photographs, style, networks).checkerboard > 5


def test_figures_are_means_over_photographs(networks, style, photographs):
    def painter(rgb: Bytes) -> Bytes:
        return 255 - rgb

    alone = [evaluate(painter, [rgb], style, networks) for rgb in photographs]
    both = evaluate(painter, photographs, style, networks)
    for name in (*FIGURES, "photograph_style", "photograph_coarse"):
        assert getattr(both, name) == pytest.approx(sum(getattr(one, name) for one in alone) / 2), name


def test_a_checkerboard_has_its_energy_at_the_nyquist_frequency_and_a_ramp_hardly_any():
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    checkerboard = ((rows + columns) % 2 * 255).expand(1, 3, 16, 16)
    # Its one peak, at the corner where row and column meet, is counted in both.
    assert nyquist_energy(checkerboard) == pytest.approx(2 * (16 * 16 * 127.5) ** 2, rel=1e-4)
    waves = torch.sin(columns * 2 * torch.pi / 16).expand(1, 3, 16, 16) * 127.5
    assert nyquist_energy(waves) < 1e-3


def test_cocos_twenty_are_measured_on_and_of_another_set_all(photo, tmp_path):
    number = min(HELD_OUT)
    for name in (f"{number:012d}.png", "000000000001.png"):
        Image.fromarray(photo).save(tmp_path / name)
    assert [path.stem for path in open_held_out(tmp_path, tmp_path)] == [f"{number:012d}"]
    (tmp_path / f"{number:012d}.png").unlink()
    assert [path.stem for path in open_held_out(tmp_path, tmp_path)] == ["000000000001"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photographs and styles of 64 px in place of 256 and 512."""
    monkeypatch.setattr("impasto.training.evaluate.SIDE", 64)
    for module in ("training.sources", "core.gatys.style"):
        monkeypatch.setattr(f"impasto.{module}.STYLE_SIZE", 64)


def test_impasto_evaluate_prints_a_row_for_each_model(small, impasto, photo, photo_file, tmp_path):
    arguments = ("--data", photo_file.parent, "--style-image", photo_file, "--json", tmp_path / "figures.json")
    status, out, errors = impasto("evaluate", *arguments)
    assert status == 0, errors
    rows = [line for line in out.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == ["aonet/coco/plain", "vgg16/coco/plain"]
    figures = json.loads(Path(tmp_path / "figures.json").read_text())
    assert f"| {figures['aonet/coco/plain']['style']:.3f} |" in rows[0]
    status, _, errors = impasto("evaluate", "--style", "nothing")
    assert (status, "Known: aonet/coco/plain" in errors) == (2, True)


def test_figures_are_measured_once_and_the_page_shows_them(small, impasto, photo, photo_file, tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    Image.fromarray(photo).save(photographs / "one.png")
    arguments = ("--style", "plain", "--arch", "aonet", "--data", photographs, "--style-image", photo_file)
    small = tmp_path / "small.png"
    Image.fromarray(photo[:40, :48]).save(small)
    kept, page = tmp_path / "figures.json", tmp_path / "page" / "models.md"
    page.parent.mkdir()
    more = ("--json", kept, "--page", page, "--photograph", small)
    status, _, errors = impasto("evaluate", *arguments, *more)
    assert status == 0, errors
    text, figures = page.read_text(), json.loads(kept.read_text())
    assert f"| {figures['aonet/coco/plain']['style']:.3f} |" in text
    losses = figures["pixels/plain"]
    assert losses["last"]["total"] < losses["first"]["total"]
    assert f"| plain | {losses['first']['total']:.3g} | {losses['last']['total']:.3g} |" in text
    assert "| `aonet/coco/plain` |" in text.split("## Training")[1].split("## Where")[0]
    with Image.open(page.with_suffix(".webp")) as grid:
        assert grid.width > 2 * 48 and grid.height > 40

    figures["aonet/coco/plain"]["detail"] = 12.345
    kept.write_text(json.dumps(figures))
    status, out, errors = impasto("evaluate", *arguments, "--json", kept)
    assert (status, "| 12.345 |" in out) == (0, True)  # of the file: the checkpoint is the same
    kept.write_text("[1]")
    status, _, errors = impasto("evaluate", *arguments, "--json", kept)
    assert (status, "does not hold figures" in errors) == (2, True)
