from collections.abc import Callable
from math import inf, nan

import numpy as np
import pytest
import torch
from core.gatys_loss import PixelLoss
from PIL import Image
from pydantic import ValidationError

from core import gatys, gatys_loss
from core.errors import BadParameter, NotFound
from core.gatys import Stage, paint_pixels, plan
from core.gatys_run import Run, to_pixels, to_rgb
from core.gatys_style import Style, StyleImage, blended, find_style
from core.images import Picture
from core.recipes import PIXEL_STYLE_LAYERS, STYLE_SIZE, GatysParams
from core.settings import ROOT
from core.spectrum import Spectrum
from core.styles import StyleTargets, style_targets

KEPT = ROOT / "models/styles"
TINY = {"size": 48, "num_iterations": 8}


@pytest.fixture(scope="module")
def picture() -> Picture:
    """A photograph of 67 x 52 px, transparent in its upper half."""
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    alpha = np.full((52, 67), 255, np.uint8)
    alpha[:26] = 0
    return Picture(np.array(small.resize((67, 52), Image.Resampling.BICUBIC)), alpha)


@pytest.fixture(scope="module")
def style(vgg) -> Style:
    rgb = np.random.default_rng(1).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    return Style(style_targets(rgb, "0" * 64, 64, PIXEL_STYLE_LAYERS, vgg), rgb)


def stop_after(number: int) -> tuple[Callable[[], bool], Callable[[object], None]]:
    """(should_stop, on_step) of a run that is stopped after so many steps."""
    seen: list[object] = []
    return (lambda: len(seen) >= number), seen.append


# --- parameters


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"content_weight": 0, "style_weight": 0}, "nothing to paint"),
        ({"style_layer_weights": (1, 2)}, "style_layer_weights has 2 weights, style_layers has 5 layers"),
        ({"content_layer_weights": (1, -1)}, "0 or more"),
        ({"style_blend": (0, 0)}, "one of them is more"),
        ({"style_layers": ("relu1_1", "relu1_1")}, "named twice"),
        ({"style_layers": ("relu9_9",)}, "relu9_9"),
        ({"style": "wave", "style_scale": 2}, "style_scale needs the style's pictures"),
        ({"style": "wave", "style_blend": (1,)}, "style_blend needs the style's pictures"),
        ({"style": "wave", "init": "style"}, "init=style needs the style's picture"),
        ({"style": "../wave"}, "pattern"),
        ({"tv_weight": inf}, "finite"),
        ({"size": 16}, "32"),
        ({"iterations": 3}, "Extra inputs"),
    ],
)
def test_parameters_that_are_refused(values, says):
    with pytest.raises(ValidationError, match=says):
        GatysParams(**values)


def test_without_normalise_the_weights_are_the_reports_unless_told():
    assert GatysParams().normalise
    plain = GatysParams(normalise=False, tv_weight=2)
    assert (plain.content_weight, plain.style_weight, plain.tv_weight) == (0.03, 1, 2)
    # the report's, in the units of the VGG16 that it names, whose features are 57 times smaller
    assert plain.content_weight == pytest.approx(100 / 57**2, rel=0.05)
    assert plain.style_weight == pytest.approx(1e7 / 57**4, rel=0.06)


@pytest.mark.parametrize(
    ("size", "values", "stages"),
    [
        ((3000, 4000), {}, [Stage(192, 256, 100), Stage(384, 512, 100)]),
        ((3000, 4000), {"size": 384}, [Stage(288, 384, 200)]),
        ((300, 200), {}, [Stage(300, 200, 200)]),  # never enlarged
        ((3000, 4000), {"coarse_to_fine": False}, [Stage(384, 512, 200)]),
        ((300, 200), {"coarse_to_fine": True, "num_iterations": 5}, [Stage(150, 100, 2), Stage(300, 200, 3)]),
        ((300, 200), {"coarse_to_fine": True, "num_iterations": 1}, [Stage(300, 200, 1)]),
        ((40, 4000), {}, [Stage(16, 256, 100), Stage(16, 512, 100)]),  # relu5_1 needs 16 px
    ],
)
def test_stages(size, values, stages):
    assert plan(*size, GatysParams(**values)) == stages


def test_a_picture_under_16_px_is_refused():
    with pytest.raises(BadParameter, match=r"200x15.*16 px"):
        plan(15, 200, GatysParams())


# --- the style


def test_the_style_is_a_name_or_pictures(vgg, style):
    image = StyleImage(style.image, "ab")
    named = find_style(GatysParams(style="wave"), [], KEPT, vgg)
    assert set(named.targets.grams) == set(PIXEL_STYLE_LAYERS)
    assert named.image is None
    own = find_style(GatysParams(style_scale=0.25), [image], KEPT, vgg)
    assert own.targets.size == STYLE_SIZE // 4
    assert own.image is style.image
    for params, images, says in (
        (GatysParams(), [], "neither is given"),
        (GatysParams(style="wave"), [image], "both are given"),
        (GatysParams(style_blend=(1, 2, 3)), [image, image], "3 weights for 2 style pictures"),
        (GatysParams(style="wave", style_layers=("relu3_2",)), [], "relu3_3"),
    ):
        with pytest.raises(BadParameter, match=says):
            find_style(params, images, KEPT, vgg)
    with pytest.raises(NotFound, match="Did you mean wave"):
        find_style(GatysParams(style="waves"), [], KEPT, vgg)


def test_gram_matrices_are_blended_by_weight():
    one, two = (StyleTargets({"relu1_1": torch.full((2, 2), value)}, f"{value}", 64) for value in (1.0, 5.0))
    mixed = blended([one, two], (3, 1))
    assert torch.equal(mixed.grams["relu1_1"], torch.full((2, 2), 2.0))
    assert mixed.sha256 == blended([one, two], (6, 2)).sha256 != blended([one, two], (1, 3)).sha256
    assert blended([one], (3,)) is one


# --- the loss


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss in float32, on a processor too that is faster in bfloat16."""
    monkeypatch.setattr(gatys_loss, "has_bfloat16", lambda device: False)


@pytest.mark.usefixtures("float32")
def test_a_picture_in_its_own_style_costs_nothing(picture, vgg):
    pixels = to_pixels(picture.rgb[:48, :64].copy(), "cpu")
    own = style_targets(picture.rgb[:48, :64], "", 48, PIXEL_STYLE_LAYERS, vgg)
    losses = PixelLoss(GatysParams(tv_weight=0), vgg, own, pixels)(pixels)
    assert losses["content"] == losses["tv"] == 0
    assert losses["total"] == losses["style"] < 1e-6


@pytest.mark.usefixtures("float32")
def test_normalised_terms_are_near_one(picture, style, vgg):
    """No features cost the photograph's mean square over its variance, and no Gram matrix 1 a layer."""
    photograph = to_pixels(picture.rgb, "cpu")
    loss = PixelLoss(
        GatysParams(content_weight=1, style_weight=2, style_layer_weights=(1, 0, 3, 0, 1)),
        vgg,
        style.targets,
        photograph,
    )
    loss._features = lambda pixels, layers: (
        {k: torch.zeros(1, g.shape[0], 3, 4) for k, g in loss.grams.items()}
        | {k: torch.zeros_like(f) for k, f in loss.wanted.items()}
    )
    losses = loss(photograph)
    wanted = loss.wanted["relu4_2"]
    assert losses["content"].item() == pytest.approx((wanted.square().mean() / loss.content_units["relu4_2"]).item())
    assert losses["content"] > 1
    assert losses["style"].item() == pytest.approx(2 * (1 + 3 + 1))


def test_bfloat16_costs_what_float32_does(picture, style, vgg, monkeypatch):
    losses = []
    for bfloat16 in (False, True):
        monkeypatch.setattr(gatys_loss, "has_bfloat16", lambda device, bfloat16=bfloat16: bfloat16)
        loss = PixelLoss(GatysParams(), vgg, style.targets, to_pixels(picture.rgb, "cpu"))
        losses.append(loss(to_pixels(picture.rgb[:, ::-1].copy(), "cpu")))
    assert losses[1]["style"] != losses[0]["style"]
    for name, exact in losses[0].items():
        assert losses[1][name].item() == pytest.approx(exact.item(), rel=0.01)


def test_a_photograph_of_one_colour_can_be_painted(style, vgg):
    plain = Picture(np.full((40, 40, 3), 90, np.uint8))
    losses = []
    painting = paint_pixels(plain, style, GatysParams(**TINY), vgg, on_step=lambda step: losses.append(step.losses))
    assert losses[-1]["total"] < losses[0]["total"]
    assert painting.rgb.std() > 1


# --- the coordinates


@pytest.mark.parametrize("size", [(32, 48), (33, 48), (32, 47), (17, 31)])
def test_coordinates_give_the_pixels_back(size):
    pixels = torch.rand(1, 3, *size) * 255
    spectrum = Spectrum(*size, "cpu")
    torch.testing.assert_close(spectrum.pixels(spectrum.coordinates(pixels)), pixels, atol=1e-3, rtol=0)


def test_a_step_changes_large_forms_and_brightness_most():
    """One step down the gradient of (random noise . pixels): grey more than gaudy, an area more than a dot."""
    spectrum = Spectrum(64, 64, "cpu")
    pixels = torch.full((1, 3, 64, 64), 128.0)
    coordinates = spectrum.coordinates(pixels).requires_grad_()
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    (spectrum.pixels(coordinates) * noise).sum().backward()
    change = spectrum.pixels(coordinates.grad)
    grey = change.mean(1)
    assert grey.std() > 3 * (change - grey).std()
    neighbours = (grey[..., 1:] - grey[..., :-1]).std()
    assert neighbours < grey.std() / 3  # of noise it would be 1.4 times


# --- the loop


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_both_optimisers_find_the_least(optimizer):
    run = Run(GatysParams(optimizer=optimizer, lr=10), "cpu", np.zeros((32, 32, 3), np.uint8))
    for _ in range(60):
        run.step(lambda pixels: {"total": (pixels - 100).square().mean()})
    assert run.best_loss < 200  # of 10,000
    assert np.abs(to_rgb(run.best) - 100.0).mean() == pytest.approx(run.best_loss**0.5, abs=1)


def test_it_paints(picture, style, vgg):
    steps = []
    painting = paint_pixels(picture, style, GatysParams(**TINY), vgg, on_step=steps.append)
    assert [step.number for step in steps] == list(range(1, 9))
    assert {step.total for step in steps} == {8}
    assert steps[0].losses["content"] < 1e-6  # it starts as the photograph
    assert steps[-1].losses["total"] < 0.5 * steps[0].losses["total"]
    assert all(step.seconds_left >= 0 for step in steps)
    assert steps[-1].seconds_left == 0
    assert painting.rgb.shape == picture.rgb.shape
    np.testing.assert_array_equal(painting.alpha, picture.alpha)
    preview = steps[-1].picture()
    assert (preview.height, preview.width) == (37, 48)
    assert preview.alpha.shape == (37, 48)
    np.testing.assert_array_equal(gatys.resize(preview.rgb, 52, 67), painting.rgb)


def test_coarse_to_fine_begins_at_half_size(picture, style, vgg):
    sizes = []
    params = GatysParams(**TINY, coarse_to_fine=True)
    paint_pixels(picture, style, params, vgg, on_step=lambda step: sizes.append(step.picture().rgb.shape[:2]))
    assert sizes == [(18, 24)] * 4 + [(37, 48)] * 4


def test_stopped_it_gives_the_best_so_far(picture, style, vgg):
    params = GatysParams(**TINY)
    steps = []
    painting = paint_pixels(picture, style, params, vgg, on_step=steps.append, should_stop=lambda: len(steps) == 1)
    assert len(steps) == 1
    small = gatys.resize(picture.rgb, 37, 48)
    np.testing.assert_array_equal(painting.rgb, gatys.resize(small, 52, 67))  # evaluated once: still the photograph


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_run_that_was_stopped_gives_the_same_painting_bit_for_bit(picture, style, vgg, tmp_path, optimizer):
    params = GatysParams(**TINY, optimizer=optimizer, coarse_to_fine=True)
    totals: list[float] = []
    whole = paint_pixels(picture, style, params, vgg, on_step=lambda step: totals.append(step.losses["total"]))
    state, again = tmp_path / "state.pt", []
    for number in (2, 2, 1):  # within the first stage, at its end and within the second
        should_stop, count = stop_after(number)

        def on_step(step, count=count):
            again.append(step.losses["total"])
            count(step)

        paint_pixels(picture, style, params, vgg, on_step=on_step, should_stop=should_stop, state=state)
    parts = paint_pixels(
        picture, style, params, vgg, on_step=lambda step: again.append(step.losses["total"]), state=state
    )
    assert again == totals
    np.testing.assert_array_equal(parts.rgb, whole.rgb)
    done = paint_pixels(picture, style, params, vgg, on_step=lambda step: again.append(nan), state=state)
    assert len(again) == 8  # there was nothing left to do
    np.testing.assert_array_equal(done.rgb, whole.rgb)


def test_a_run_that_was_killed_goes_on_from_what_it_saved(picture, style, vgg, tmp_path, monkeypatch):
    monkeypatch.setattr("core.gatys.SAVING", 0)  # however long it takes
    state = tmp_path / "state.pt"

    def killed(step):
        if step.number == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint_pixels(picture, style, GatysParams(**TINY), vgg, on_step=killed, state=state, save_every=-1)
    numbers = []
    paint_pixels(
        picture, style, GatysParams(**TINY), vgg, on_step=lambda step: numbers.append(step.number), state=state
    )
    assert numbers == [4, 5, 6, 7, 8]


def test_a_run_of_something_else_is_left_alone(picture, style, vgg, tmp_path):
    state = tmp_path / "state.pt"
    params = GatysParams(**TINY)
    should_stop, on_step = stop_after(1)
    paint_pixels(picture, style, params, vgg, on_step=on_step, should_stop=should_stop, state=state)
    before = state.read_bytes()
    upside_down = Picture(picture.rgb[::-1].copy())
    other = Style(StyleTargets(style.targets.grams, "1" * 64, 64))
    for arguments, says in (
        ((picture, style, params.model_copy(update={"seed": 1}), vgg), "other parameters"),
        ((upside_down, style, params, vgg), "other picture"),
        ((picture, other, params, vgg), "other style"),
    ):
        with pytest.raises(BadParameter, match=says):
            paint_pixels(*arguments, state=state)
    assert state.read_bytes() == before
    state.write_bytes(b"broken")
    with pytest.raises(BadParameter, match="no state of a painting"):
        paint_pixels(picture, style, params, vgg, state=state)


@pytest.mark.parametrize("bad", [nan, inf])
def test_a_loss_that_is_no_number(picture, style, vgg, monkeypatch, bad):
    """From the start it is an error; later the best so far is the answer."""
    good = 0

    def loss_of(*arguments):
        def loss(pixels):
            loss.calls += 1
            return {"total": pixels.square().mean() * (1 if loss.calls <= good else bad)}

        loss.calls = 0
        return loss

    monkeypatch.setattr(gatys, "PixelLoss", loss_of)
    with pytest.raises(BadParameter, match="from the start: try lower weights"):
        paint_pixels(picture, style, GatysParams(**TINY), vgg)
    good, steps = 3, []
    painting = paint_pixels(picture, style, GatysParams(**TINY), vgg, on_step=steps.append)
    assert len(steps) == 3
    assert painting.rgb.mean() < picture.rgb.mean()


def test_what_it_starts_as(picture, style, vgg):
    stage = Stage(16, 32, 1)
    noise = [gatys._beginning(picture, style, GatysParams(init="random", seed=seed), stage) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(noise[0], noise[1])
    assert (noise[0] != noise[2]).any()
    content = gatys._beginning(picture, style, GatysParams(), stage)
    np.testing.assert_array_equal(content, gatys.resize(picture.rgb, 16, 32))
    columns = np.zeros((64, 64, 3), np.uint8)
    columns[16:48] = 90  # the middle half, which alone has the photograph's shape
    cut = gatys._beginning(picture, Style(style.targets, columns), GatysParams(init="style"), stage)
    assert cut.shape == (16, 32, 3)
    assert (cut[2:-2] == 90).all()
    with pytest.raises(BadParameter, match="needs the style's picture"):
        gatys._beginning(picture, Style(style.targets), GatysParams(init="style"), stage)


def test_preserve_color_changes_brightness_alone(picture, style, vgg):
    def colours(rgb):
        return np.asarray(Image.fromarray(rgb).convert("YCbCr")).astype(int)[..., 1:]

    calm = Picture(picture.rgb // 4 + 96)  # far from black and white, where colours are cut off
    kept = paint_pixels(calm, style, GatysParams(**TINY, preserve_color=True), vgg)
    assert np.abs(colours(kept.rgb) - colours(calm.rgb)).mean() < 8
    assert np.abs(kept.rgb.astype(int) - calm.rgb).mean() > 8


def test_the_bundled_styles_paint_on_a_fresh_machine(picture, vgg):
    params = GatysParams(style="wave", **TINY)
    totals = []
    paint_pixels(
        picture, find_style(params, [], KEPT, vgg), params, vgg, on_step=lambda s: totals.append(s.losses["total"])
    )
    assert totals[-1] < totals[0] / 2
