"""The objectives, on pictures whose losses are known on paper."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from impasto.core.losses.gram_files import StyleTargets, style_targets
from impasto.core.losses.networks import LossNetworks
from impasto.core.losses.objective import COARSE, LEAST_CONTRAST, Objective, ReportObjective, clamped, halved
from impasto.core.losses.recolour import colours_of, recoloured
from impasto.core.losses.style_image import StyleImage
from impasto.core.losses.terms import content_loss, gram
from impasto.core.nets.vgg import VGG16
from impasto.core.params import ALGORITHM_2, NETWORK, PIXELS, STYLE_LAYERS, GatysParams, TrainParams, Weights

PLAIN = Weights(style=1, coarse=1, depicted=1, detail=1, tv=1, excess=1, scales=3)


def soft(seed: int, side: int = 64, batch: int = 1) -> torch.Tensor:
    """(batch, 3, side, side): a few soft spots of colour, 40..215 in whole levels."""
    random = torch.Generator().manual_seed(seed)
    small = torch.rand(batch, 3, 5, 5, generator=random) * 175 + 40
    large = torch.nn.functional.interpolate(small, (side, side), mode="bilinear", align_corners=True)
    return large.round()


def as_image(picture: torch.Tensor) -> np.ndarray:
    return picture[0].permute(1, 2, 0).byte().numpy()


def targets_of(picture: torch.Tensor, vgg: VGG16, scales: int = 3, layers: tuple[str, ...] = STYLE_LAYERS):
    return style_targets(StyleImage(as_image(picture), "0" * 64), picture.shape[-1], scales, layers, vgg)


@pytest.fixture(scope="module")
def photograph() -> torch.Tensor:
    return soft(0)


@pytest.fixture(scope="module")
def style(vgg) -> StyleTargets:
    return targets_of(soft(1), vgg)


@pytest.fixture
def objective(networks, style) -> Objective:
    return Objective(PLAIN, networks.vgg, networks.squeezenet, style)


def test_the_photograph_itself_keeps_its_subject(objective, photograph):
    losses = objective.of(photograph)(photograph)
    assert losses["excess"] == 0
    for name in ("detail", "depicted"):
        assert losses[name].item() == pytest.approx(0, abs=1e-9)
    assert losses["style"] > 0.01 and losses["coarse"] > 0.01 and losses["tv"] > 0


def test_the_style_itself_has_no_style_loss(objective, photograph):
    losses = objective.of(photograph)(soft(1))
    assert losses["style"].item() == pytest.approx(0, abs=1e-9)
    assert losses["detail"] > 0.1 and losses["depicted"] > 0.1


def test_the_photograph_in_the_styles_colours_has_nothing_coarse_to_learn(objective, style, photograph):
    wanted = recoloured(photograph, style.colours)
    assert wanted.min() > 0 and wanted.max() < 255
    assert objective.of(photograph)(wanted)["coarse"].item() == pytest.approx(0, abs=1e-9)


def test_a_painting_of_the_wanted_means_alone_has_a_coarse_loss_of_one(objective, style, photograph):
    mean = recoloured(photograph, style.colours).mean((2, 3), keepdim=True).expand_as(photograph)
    assert objective.of(photograph)(mean)["coarse"].item() == pytest.approx(1, rel=1e-4)


def test_coarse_looks_at_squares_and_not_at_what_is_in_them(objective, photograph):
    ink = torch.tensor([[30.0, -30], [-30, 30]]).repeat(32, 32)  # of mean 0 in each square
    loss = objective.of(photograph)
    assert COARSE % 2 == 0
    assert loss(photograph + ink)["coarse"].item() == pytest.approx(loss(photograph)["coarse"].item(), rel=1e-5)
    assert loss(photograph + ink)["tv"] > 10 * loss(photograph)["tv"]


def test_style_is_a_sum_over_layers_and_a_mean_over_scales(networks, style, photograph):
    """Against twice its own Gram matrices each layer's error is a quarter of the target's mean square."""
    own = targets_of(photograph, networks.vgg)
    for factors, wanted in (((2, 2, 2), 3 / 4), ((2, 1, 1), 1 / 4), ((1, 1, 0.5), 1)):
        grams = tuple(
            {layer: factor * matrix for layer, matrix in scale.items()}
            for factor, scale in zip(factors, own.grams, strict=True)
        )
        objective = Objective(PLAIN, networks.vgg, networks.squeezenet, replace(own, grams=grams))
        assert objective.of(photograph)(photograph)["style"].item() == pytest.approx(wanted, rel=1e-3)


def test_a_small_picture_has_fewer_scales(networks):
    small = soft(0, 16)
    own = targets_of(small, networks.vgg, 2)
    objective = Objective(replace(PLAIN, scales=4), networks.vgg, networks.squeezenet, own)
    loss = objective.of(small)  # no targets of the third scale, of 4 px, are looked at
    assert loss(small)["style"].item() == pytest.approx(0, abs=1e-9)


def test_tv_and_excess_on_paper(objective):
    """A checkerboard of 80 and 120: neighbours differ by 40 both ways, pixels from their mean by 20."""
    places = torch.arange(32)
    checkerboard = ((places[:, None] + places) % 2 * 40.0 + 80).expand(1, 3, 32, 32)
    loss = objective.of(checkerboard)
    assert loss(checkerboard)["tv"].item() == pytest.approx(2 * 40**2 / 20**2)
    beyond = checkerboard.clone()
    beyond[0, 0, 0, :2] = torch.tensor([-20.0, 275])
    assert loss(beyond)["excess"].item() == pytest.approx(2 * 20**2 / (3 * 32 * 32) / 20**2)


def test_what_is_beyond_is_judged_as_it_is_seen(objective, photograph):
    beyond = photograph * 3 - 255
    loss = objective.of(photograph)
    seen, whole = loss(beyond.clamp(0, 255)), loss(beyond)
    assert seen["excess"] == 0 and whole["excess"] > 0
    for name in ("style", "coarse", "depicted", "detail", "tv"):
        assert whole[name].item() == pytest.approx(seen[name].item(), rel=1e-4), name


def test_clamped_passes_gradients_straight_through():
    paintings = torch.tensor([-10.0, 0, 100, 255, 300]).requires_grad_()
    assert clamped(paintings).tolist() == [0, 0, 100, 255, 255]
    weights = torch.tensor([1.0, 2, 3, 4, 5])
    (clamped(paintings) * weights).sum().backward()
    assert torch.equal(paintings.grad, weights)


def test_half_the_size_is_a_mean_of_squares():
    picture = torch.tensor([[0.0, 4, 9], [8, 4, 9], [9, 9, 9]]).view(1, 1, 3, 3)
    assert halved(picture).tolist() == [[[[4]]]]


def test_weights_scale_terms(networks, style, photograph):
    painting = soft(2) * 1.5 - 50
    plain = Objective(PLAIN, networks.vgg, networks.squeezenet, style).of(photograph)(painting)
    weights = Weights(style=2, coarse=3, depicted=5, detail=7, tv=11, excess=13, scales=3)
    weighted = Objective(weights, networks.vgg, networks.squeezenet, style).of(photograph)(painting)
    assert set(plain) == {*Objective.TERMS, "total"}
    for name in Objective.TERMS:
        assert weighted[name].item() == pytest.approx(getattr(weights, name) * plain[name].item(), rel=1e-5), name
    for losses in (plain, weighted):
        assert losses["total"].item() == pytest.approx(sum(losses[name].item() for name in Objective.TERMS), rel=1e-5)


def test_content_weight_is_of_all_that_keeps_the_subject():
    names = {"arch": "aonet", "dataset": "coco", "style": "wave"}
    assert TrainParams(**names).weights == NETWORK
    assert GatysParams().weights == PIXELS
    weights = TrainParams(**names, content_weight=2, style_weight=7, tv_weight=0.1).weights
    assert weights == replace(
        NETWORK,
        style=7,
        coarse=2 * NETWORK.coarse,
        depicted=2 * NETWORK.depicted,
        detail=2 * NETWORK.detail,
        tv=0.1,
    )


def test_what_a_shift_leaves_out_is_not_depicted(objective, photograph):
    painting = photograph.clone()
    painting[..., :5, :] = 0
    painting[..., :3] = 255
    assert objective.of(photograph)(painting)["depicted"] > 0.01
    assert objective.of(photograph, (5, 3))(painting)["depicted"].item() == pytest.approx(0, abs=1e-9)
    assert objective.of(photograph, (5, 2))(painting)["depicted"] > 1e-4


def test_a_photograph_of_one_colour_has_finite_losses_and_gradients(objective):
    flat = torch.full((1, 3, 32, 32), 200.0)
    painting = soft(2, 32).requires_grad_()
    losses = objective.of(flat)(painting)
    assert losses["excess"] == 0
    losses["total"].backward()
    assert losses["total"].isfinite() and painting.grad.isfinite().all()
    step = flat.clone()
    step[..., 16:] = 210  # one pair of 31 differs by 10
    assert objective.of(flat)(step)["tv"].item() == pytest.approx(100 / 31 / LEAST_CONTRAST, rel=1e-4)


def test_every_term_moves_the_painting(networks, style, photograph):
    painting = (soft(2) * 1.5 - 50).requires_grad_()
    losses = Objective(PLAIN, networks.vgg, networks.squeezenet, style).of(photograph)(painting)
    for name in Objective.TERMS:
        (gradient,) = torch.autograd.grad(losses[name], painting, retain_graph=True)
        assert gradient.isfinite().all() and gradient.any(), name
    assert not any(p.requires_grad for p in (*networks.vgg.parameters(), *networks.squeezenet.parameters()))


def test_several_photographs_are_judged_together(objective):
    photographs, paintings = soft(3, 32, 2), soft(4, 32, 2)
    both = objective.of(photographs)(paintings)
    one = [objective.of(photographs[k : k + 1])(paintings[k : k + 1])["style"].item() for k in range(2)]
    assert both["style"].item() == pytest.approx(np.mean(one), rel=1e-3)


def test_in_bfloat16_losses_are_float32_and_about_the_same(objective, photograph):
    painting = soft(2)
    exact = objective.of(photograph)(painting)
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective.of(photograph)(painting)
    for name, loss in rough.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact[name].item(), rel=0.05), name


def test_the_reports_objective_is_its_formulas(photograph):
    torch.manual_seed(0)
    vgg, painting = VGG16(), soft(2)
    content, layers = ("relu1_2", "relu2_2"), ("relu1_1", "relu4_3")
    targets = targets_of(soft(1), vgg, 1, layers)
    losses = ReportObjective(17, 50, 3, content, layers, vgg, targets).of(photograph, (3, 4))(painting)
    before, after = (vgg(picture, {*content, *layers}) for picture in (photograph, painting))
    wanted = {
        "content": 17 * sum(content_loss(after[k], before[k]).item() for k in content),
        "style": 50 * sum((gram(after[k])[0] - targets.grams[0][k]).square().mean().item() for k in layers),
    }
    for name, value in wanted.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4)
    assert list(losses) == [*ReportObjective.TERMS, "total"]
    assert losses["total"].item() == pytest.approx(sum(losses[k].item() for k in ReportObjective.TERMS), rel=1e-5)
    itself = ReportObjective(17, 50, 0, content, layers, vgg, targets).of(photograph)(photograph)
    assert (itself["content"].item(), itself["tv"].item()) == (pytest.approx(0, abs=1e-9), 0)


def test_which_objective_parameters_mean(networks, style):
    names = {"arch": "aonet", "dataset": "coco", "style": "wave"}
    ours = networks.objective(TrainParams(**names, style_weight=9), style)
    assert isinstance(ours, Objective) and ours.weights.style == 9
    pixels = networks.objective(GatysParams(), style)
    assert isinstance(pixels, Objective) and pixels.weights == PIXELS
    report = networks.objective(TrainParams(**names, recipe="report", content_layers=("relu1_2",)), style)
    assert isinstance(report, ReportObjective)
    assert (report.content_layers, report.style_layers) == (("relu1_2",), ALGORITHM_2)
    report = networks.objective(GatysParams(recipe="report"), style)
    assert isinstance(report, ReportObjective)
    assert (report.content_layers, report.content_weight, report.tv_weight) == (("relu4_2",), 0.03, 0)


def test_loss_networks_are_named_and_hashed(networks):
    assert (networks.source, networks.name) == ("bundled", "bundled")
    other = LossNetworks(VGG16("/somewhere/vgg16.pth", "ab"), networks.squeezenet)
    assert other.name == "vgg16.pth"
    assert len({networks.sha256, other.sha256}) == 2


def test_the_colours_of_targets_are_the_images(vgg):
    picture = soft(1)
    found, wanted = targets_of(picture, vgg).colours, colours_of(picture[0])
    torch.testing.assert_close(found.mean, wanted.mean)
    torch.testing.assert_close(found.covariance, wanted.covariance, rtol=1e-4, atol=0.01)
