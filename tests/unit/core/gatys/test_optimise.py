from collections.abc import Callable
from math import inf, nan

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from impasto.core.errors import BadParameter, NotFound
from impasto.core.gatys import optimise as gatys
from impasto.core.gatys.optimise import paint_pixels
from impasto.core.gatys.size import optimised
from impasto.core.gatys.state import Run
from impasto.core.gatys.style import Style, blended, find_style
from impasto.core.losses.gram_files import StyleTargets, style_targets
from impasto.core.losses.networks import LossNetworks, load_loss_networks
from impasto.core.losses.recolour import Colours, colours_of
from impasto.core.losses.style_image import StyleImage
from impasto.core.nets.vgg import VGG16, save_vgg16
from impasto.core.params import ALGORITHM_1, PIXELS, SCALES, STYLE_LAYERS, STYLE_SIZE, GatysParams
from impasto.core.pictures.codec import Picture
from impasto.core.pictures.tensors import to_array, to_tensor
from impasto.core.settings import ROOT

STYLES = ROOT / "models/styles"
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
    return Style(style_targets(StyleImage(rgb, "0" * 64), 64, SCALES, STYLE_LAYERS, vgg), rgb)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> LossNetworks:
    """With a whole VGG16 of random weights, from a file."""
    path = tmp_path_factory.mktemp("whole") / "vgg16.safetensors"
    torch.manual_seed(0)
    save_vgg16(path, VGG16(), "{}")
    return load_loss_networks(str(path))


def stop_after(number: int) -> tuple[Callable[[], bool], Callable[[object], None]]:
    """(should_stop, on_step) of a run that is stopped after so many steps."""
    seen: list[object] = []
    return (lambda: len(seen) >= number), seen.append


# --- parameters


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"content_weight": 0, "style_weight": 0}, "nothing to paint"),
        ({"style_blend": (0, 0)}, "more than 0"),
        ({"style_blend": (1, -1)}, "0 or more"),
        ({"style": "wave", "style_scale": 2}, "style_scale needs the style's pictures"),
        ({"style": "wave", "style_blend": (1,)}, "style_blend needs the style's pictures"),
        ({"style": "wave", "init": "style"}, "init=style needs the style's picture"),
        ({"style": "../wave"}, "pattern"),
        ({"recipe": "theirs"}, "'ours' or 'report'"),
        ({"tv_weight": inf}, "finite"),
        ({"size": 16}, "32"),
        ({"iterations": 3}, "Extra inputs"),
    ],
)
def test_parameters_that_are_refused(values, says):
    with pytest.raises(ValidationError, match=says):
        GatysParams(**values)


def test_the_reports_numbers_unless_told():
    ours = GatysParams()
    assert (ours.content_weight, ours.style_weight, ours.tv_weight, ours.init) == (1, PIXELS.style, 1.5, "recoloured")
    assert (ours.style_layers, ours.scales, ours.weights) == (STYLE_LAYERS, SCALES, PIXELS)
    report = GatysParams(recipe="report", tv_weight=2)
    assert (report.content_weight, report.style_weight, report.tv_weight) == (0.03, 1, 2)
    assert (report.init, report.style_layers, report.scales) == ("content", ALGORITHM_1, 1)
    # the report's, in the units of the VGG16 that it names, whose features are 57 times smaller
    assert report.content_weight == pytest.approx(100 / 57**2, rel=0.05)
    assert report.style_weight == pytest.approx(1e7 / 57**4, rel=0.06)
    assert GatysParams.model_validate_json(report.model_dump_json()) == report
    assert GatysParams(recipe="report", init="random").init == "random"


def test_content_weight_is_of_all_that_keeps_the_subject():
    more = GatysParams(content_weight=2, style_weight=7, tv_weight=0).weights
    assert (more.coarse, more.depicted, more.detail) == (2 * PIXELS.coarse, 2 * PIXELS.depicted, 2 * PIXELS.detail)
    assert (more.style, more.tv, more.excess, more.scales) == (7, 0, PIXELS.excess, PIXELS.scales)


@pytest.mark.parametrize(
    ("size", "asked", "seen"),
    [
        ((3000, 4000), 512, (384, 512)),
        ((3000, 4000), 384, (288, 384)),
        ((300, 200), 512, (300, 200)),  # never enlarged
        ((40, 4000), 512, (16, 512)),  # the loss networks need 16 px
        ((16, 16), 512, (16, 16)),
    ],
)
def test_what_is_optimised(size, asked, seen):
    assert optimised(*size, GatysParams(size=asked)) == seen


def test_a_picture_under_16_px_is_refused():
    with pytest.raises(BadParameter, match=r"200x15.*16 px"):
        optimised(15, 200, GatysParams())


# --- the style


def test_the_style_is_a_name_or_pictures(vgg, style):
    image = StyleImage(style.image, "ab")
    named = find_style(GatysParams(style="wave"), [], STYLES, vgg)
    assert [set(grams) for grams in named.targets.grams] == [set(STYLE_LAYERS)] * SCALES
    assert named.image is None
    own = find_style(GatysParams(style_scale=0.25), [image], STYLES, vgg)
    assert own.targets.size == STYLE_SIZE // 4
    assert own.image is style.image
    for params, images, says in (
        (GatysParams(), [], "Neither was given"),
        (GatysParams(style="wave"), [image], "Both were given"),
        (GatysParams(style_blend=(1, 2, 3)), [image, image], "3 weights for 2 style pictures"),
    ):
        with pytest.raises(BadParameter, match=says):
            find_style(params, images, STYLES, vgg)
    with pytest.raises(NotFound, match="Did you mean 'wave"):
        find_style(GatysParams(style="waves"), [], STYLES, vgg)


def test_the_reports_style_needs_a_whole_vgg16_and_the_picture(vgg, whole, style):
    image, report = StyleImage(style.image, "ab"), GatysParams(recipe="report", style_scale=0.25)
    with pytest.raises(BadParameter, match=r"the bundled one ends at relu3_1. Set IMPASTO_VGG16"):
        find_style(report, [image], STYLES, vgg)
    (grams,) = find_style(report, [image], STYLES, whole.vgg).targets.grams
    assert [len(grams[layer]) for layer in ALGORITHM_1] == [64, 128, 256, 512, 512]
    with pytest.raises(BadParameter, match=r"relu4_1, 0\.relu5_1.*style_image"):
        find_style(GatysParams(recipe="report", style="wave"), [], STYLES, whole.vgg)


def flat(level: float, sha256: str) -> StyleTargets:
    """Two scales of one layer, everything in it of one value."""
    matrix = torch.full((2, 2), level)
    return StyleTargets(
        ({"relu1_1": matrix}, {"relu1_1": 10 * matrix}),
        Colours(torch.full((3,), level), level * torch.eye(3)),
        sha256,
        64,
    )


def test_gram_matrices_and_colours_are_blended_by_weight():
    one, two = flat(1, "one"), flat(5, "two")
    mixed = blended([one, two], (3, 1))
    assert [grams["relu1_1"].unique().tolist() for grams in mixed.grams] == [[2], [20]]
    assert torch.equal(mixed.colours.mean, torch.full((3,), 2.0))
    assert torch.equal(mixed.colours.covariance, 2 * torch.eye(3))
    assert mixed.size == 64
    assert mixed.sha256 == blended([one, two], (6, 2)).sha256 != blended([one, two], (1, 3)).sha256
    assert blended([one], (3,)) is one


def test_a_blend_of_pictures_lies_between_them(vgg, style):
    dark, light = (StyleImage(style.image // 4 + add, f"{add}") for add in (0, 150))
    params = GatysParams(style_scale=0.25, style_blend=(1, 3))
    apart = [find_style(GatysParams(style_scale=0.25), [image], STYLES, vgg).targets for image in (dark, light)]
    mixed = find_style(params, [dark, light], STYLES, vgg)
    assert mixed.image is dark.rgb
    torch.testing.assert_close(mixed.targets.colours.mean, apart[0].colours.mean / 4 + apart[1].colours.mean * 3 / 4)
    for scale, (a, b) in enumerate(zip(*(targets.grams for targets in apart), strict=True)):
        for layer in STYLE_LAYERS:
            torch.testing.assert_close(mixed.targets.grams[scale][layer], a[layer] / 4 + b[layer] * 3 / 4)


# --- the loss


def test_bfloat16_costs_what_float32_does(picture, style, networks, monkeypatch):
    losses = []
    for bfloat16 in (False, True):
        monkeypatch.setattr(gatys, "has_bfloat16", lambda device, bfloat16=bfloat16: bfloat16)
        loss = gatys.painting_loss(GatysParams(), style, networks, to_tensor(picture.rgb))
        losses.append(loss(to_tensor(picture.rgb[:, ::-1].copy())))
    assert losses[1]["style"] != losses[0]["style"]
    for name, exact in losses[0].items():
        assert losses[1][name].item() == pytest.approx(exact.item(), rel=0.01)


def test_a_photograph_of_one_colour_can_be_painted(style, networks):
    plain = Picture(np.full((40, 40, 3), 90, np.uint8))
    losses = []
    painting = paint_pixels(
        plain, style, GatysParams(**TINY), networks, on_step=lambda step: losses.append(step.losses)
    )
    assert losses[-1]["total"] < losses[0]["total"]
    assert painting.rgb.std() > 1


# --- the loop


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_both_optimisers_find_the_least(optimizer):
    run = Run(GatysParams(optimizer=optimizer, lr=10), torch.zeros(1, 3, 32, 32))
    for _ in range(60):
        run.step(lambda pixels: {"total": (pixels - 100).square().mean()})
    assert run.best_loss < 200  # of 10,000
    assert np.abs(to_array(run.best) - 100.0).mean() == pytest.approx(run.best_loss**0.5, abs=1)


def test_it_paints(picture, style, networks):
    steps = []
    painting = paint_pixels(picture, style, GatysParams(**TINY), networks, on_step=steps.append)
    assert [step.number for step in steps] == list(range(1, 9))
    assert {step.total for step in steps} == {8}
    assert set(steps[0].losses) == {"style", "coarse", "depicted", "detail", "tv", "excess", "total"}
    assert steps[-1].losses["total"] < 0.5 * steps[0].losses["total"]
    assert all(step.seconds_left >= 0 for step in steps)
    assert steps[-1].seconds_left == 0
    assert painting.rgb.shape == picture.rgb.shape
    np.testing.assert_array_equal(painting.alpha, picture.alpha)
    preview = steps[-1].picture()
    assert (preview.height, preview.width) == (37, 48)
    assert preview.alpha.shape == (37, 48)
    np.testing.assert_array_equal(gatys.resize(preview.rgb, 52, 67), painting.rgb)


@pytest.mark.parametrize("size", [(16, 16), (32, 300), (300, 17)])
def test_small_pictures_and_strips_are_painted(style, networks, size):
    rgb = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    steps = []
    painting = paint_pixels(
        Picture(rgb), style, GatysParams(num_iterations=4), networks, on_step=lambda step: steps.append(step.losses)
    )
    assert painting.rgb.shape == rgb.shape
    assert len(steps) == 4
    assert steps[-1]["total"] < steps[0]["total"]


def test_the_reports_objective_paints(picture, style, whole):
    params = GatysParams(recipe="report", style_scale=0.25, **TINY)
    found = find_style(params, [StyleImage(style.image, "ab")], STYLES, whole.vgg)
    steps = []
    painting = paint_pixels(picture, found, params, whole, on_step=lambda step: steps.append(step.losses))
    assert set(steps[0]) == {"content", "style", "tv", "total"}
    assert steps[0]["content"] < 1e-3 * steps[0]["style"]  # it starts as the photograph
    assert steps[-1]["total"] < steps[0]["total"]
    assert (painting.rgb != picture.rgb).any()


def test_the_reports_objective_needs_deeper_layers(picture, style, networks):
    with pytest.raises(BadParameter, match=r"ends at relu3_1, and relu4_2 is deeper.*IMPASTO_VGG16"):
        paint_pixels(picture, style, GatysParams(recipe="report", **TINY), networks)


def test_stopped_it_gives_the_best_so_far(picture, style, networks):
    params = GatysParams(**TINY, init="content")
    steps = []
    painting = paint_pixels(picture, style, params, networks, on_step=steps.append, should_stop=lambda: len(steps) == 1)
    assert len(steps) == 1
    small = gatys.resized(picture, 37, 48).rgb
    np.testing.assert_array_equal(painting.rgb, gatys.resize(small, 52, 67))  # evaluated once: still the photograph


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_run_that_was_stopped_gives_the_same_painting_bit_for_bit(picture, style, networks, tmp_path, optimizer):
    params = GatysParams(**TINY, optimizer=optimizer)
    totals: list[float] = []
    whole = paint_pixels(picture, style, params, networks, on_step=lambda step: totals.append(step.losses["total"]))
    state, again = tmp_path / "state.pt", []
    for number in (2, 2, 1):
        should_stop, count = stop_after(number)

        def on_step(step, count=count):
            again.append(step.losses["total"])
            count(step)

        paint_pixels(picture, style, params, networks, on_step=on_step, should_stop=should_stop, state=state)
    parts = paint_pixels(
        picture, style, params, networks, on_step=lambda step: again.append(step.losses["total"]), state=state
    )
    assert again == totals
    np.testing.assert_array_equal(parts.rgb, whole.rgb)
    done = paint_pixels(picture, style, params, networks, on_step=lambda step: again.append(nan), state=state)
    assert len(again) == 8  # there was nothing left to do
    np.testing.assert_array_equal(done.rgb, whole.rgb)


def test_a_run_that_was_killed_goes_on_from_what_it_saved(picture, style, networks, tmp_path, monkeypatch):
    monkeypatch.setattr("impasto.core.gatys.optimise.SAVING", 0)  # however long it takes
    state = tmp_path / "state.pt"

    def killed(step):
        if step.number == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint_pixels(picture, style, GatysParams(**TINY), networks, on_step=killed, state=state, save_every=-1)
    numbers = []
    paint_pixels(
        picture, style, GatysParams(**TINY), networks, on_step=lambda step: numbers.append(step.number), state=state
    )
    assert numbers == [4, 5, 6, 7, 8]


def test_a_run_of_something_else_is_left_alone(picture, style, networks, tmp_path):
    state = tmp_path / "state.pt"
    params = GatysParams(**TINY)
    should_stop, on_step = stop_after(1)
    paint_pixels(picture, style, params, networks, on_step=on_step, should_stop=should_stop, state=state)
    before = state.read_bytes()
    upside_down = Picture(picture.rgb[::-1].copy())
    other = Style(StyleTargets(style.targets.grams, style.targets.colours, "1" * 64, 64))
    front = VGG16(sha256="other", depth=5)
    for arguments, says in (
        ((picture, style, params.model_copy(update={"seed": 1}), networks), "other parameters"),
        ((upside_down, style, params, networks), "other picture"),
        ((picture, other, params, networks), "other style"),
        ((picture, style, params, LossNetworks(front, networks.squeezenet)), "other loss networks"),
    ):
        with pytest.raises(BadParameter, match=says):
            paint_pixels(*arguments, state=state)
    assert state.read_bytes() == before
    state.write_bytes(b"broken")
    with pytest.raises(BadParameter, match="does not hold the state of a run"):
        paint_pixels(picture, style, params, networks, state=state)


@pytest.mark.parametrize("bad", [nan, inf])
def test_a_loss_that_is_no_number(picture, style, networks, monkeypatch, bad):
    """From the start it is an error; later the best so far is the answer."""
    good = 0

    def loss_of(*arguments):
        """In place of the losses that a photograph gives."""

        def loss(pixels):
            loss.calls += 1
            return {"total": pixels.square().mean() * (1 if loss.calls <= good else bad)}

        loss.calls = 0
        return loss

    monkeypatch.setattr(gatys, "painting_loss", loss_of)
    with pytest.raises(BadParameter, match=r"at the first step\. Try lower weights"):
        paint_pixels(picture, style, GatysParams(**TINY), networks)
    good, steps = 3, []
    painting = paint_pixels(picture, style, GatysParams(**TINY), networks, on_step=steps.append)
    assert len(steps) == 3
    assert painting.rgb.mean() < picture.rgb.mean()


def test_what_it_starts_as(picture, style, networks):
    small = gatys.resize(picture.rgb, 16, 32)
    noise = [gatys._beginning(small, style, GatysParams(init="random", seed=seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(noise[0], noise[1])
    assert (noise[0] != noise[2]).any()
    content = gatys._beginning(small, style, GatysParams(init="content"))
    np.testing.assert_array_equal(content, small)
    columns = np.zeros((64, 64, 3), np.uint8)
    columns[16:48] = 90  # the middle half, which alone has the photograph's shape
    cut = gatys._beginning(small, Style(style.targets, columns), GatysParams(init="style"))
    assert cut.shape == (16, 32, 3)
    assert (cut[2:-2] == 90).all()
    with pytest.raises(BadParameter, match="needs the style's picture"):
        gatys._beginning(small, Style(style.targets), GatysParams(init="style"))


def test_it_starts_in_the_styles_colours(picture, style, vgg):
    calm = style.image // np.array([4, 6, 8], np.uint8) + np.array([100, 60, 140], np.uint8)  # nothing is cut off
    targets = style_targets(StyleImage(calm, ""), 64, SCALES, STYLE_LAYERS, vgg)
    small = gatys.resize(picture.rgb, 40, 52)
    begun = gatys._beginning(small, Style(targets), GatysParams())
    assert begun.shape == (40, 52, 3)
    found = colours_of(to_tensor(begun)[0])
    torch.testing.assert_close(found.mean, targets.colours.mean, atol=0.5, rtol=0)
    torch.testing.assert_close(found.covariance, targets.colours.covariance, atol=4, rtol=0.1)


def test_preserve_color_changes_brightness_alone(picture, style, networks):
    def colours(rgb):
        return np.asarray(Image.fromarray(rgb).convert("YCbCr")).astype(int)[..., 1:]

    calm = Picture(picture.rgb // 4 + 96)  # far from black and white, where colours are cut off
    kept = paint_pixels(calm, style, GatysParams(**TINY, preserve_color=True), networks)
    assert np.abs(colours(kept.rgb) - colours(calm.rgb)).mean() < 8
    assert np.abs(kept.rgb.astype(int) - calm.rgb).mean() > 8


def test_the_bundled_styles_paint_on_a_fresh_machine(picture, networks):
    params = GatysParams(style="wave", **TINY)
    totals = []
    paint_pixels(
        picture,
        find_style(params, [], STYLES, networks.vgg),
        params,
        networks,
        on_step=lambda s: totals.append(s.losses["total"]),
    )
    assert totals[-1] < totals[0] / 2
