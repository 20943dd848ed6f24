import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from impasto.core.errors import BadCheckpoint, BadParameter, NotFound
from impasto.core.losses.gram_files import load_targets, save_targets, style_targets
from impasto.core.losses.style_image import StyleImage
from impasto.core.losses.terms import gram
from impasto.core.nets.vgg import VGG16
from impasto.core.params import SCALES, STYLE_LAYERS, STYLE_SIZE
from impasto.core.recipes import PARENTS
from impasto.core.settings import ROOT


def test_targets_are_the_grams_of_the_image_at_its_size_and_its_halves(vgg, photo):
    targets = style_targets(StyleImage(photo, "0" * 64), 37, 3, STYLE_LAYERS, vgg)
    picture = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
    assert len(targets.grams) == 3
    for grams in targets.grams:
        assert set(grams) == set(STYLE_LAYERS)
        expected = gram(vgg(picture, ["relu2_1"])["relu2_1"])[0]
        torch.testing.assert_close(grams["relu2_1"], expected)
        picture = F.avg_pool2d(picture, 2)


def test_targets_know_the_images_colours(vgg, photo):
    found = style_targets(StyleImage(photo, ""), 37, 1, STYLE_LAYERS, vgg).colours
    expected = photo.reshape(-1, 3).astype(float)
    np.testing.assert_allclose(found.mean, expected.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.covariance, np.cov(expected.T, bias=True), rtol=1e-4)


def test_the_image_is_resized_by_its_short_side(vgg):
    """Of a picture of stripes twice as large the same."""
    stripes = np.zeros((32, 48, 3), np.uint8)
    stripes[:, ::2] = 200
    large = np.kron(stripes, np.ones((2, 2, 1), np.uint8))
    a, b = (style_targets(StyleImage(rgb, ""), 16, 1, ["relu1_1"], vgg) for rgb in (stripes, large))
    assert a.size == b.size == 16
    torch.testing.assert_close(a.colours.mean, b.colours.mean, atol=1, rtol=0)


def gram_file(folder, vgg, photo, name="wave"):
    """A style at 64 px, kept there at two scales."""
    targets = style_targets(StyleImage(photo, "ab" * 32), 64, 2, STYLE_LAYERS, vgg)
    save_targets(folder / f"{name}.safetensors", targets, vgg)
    return targets


def test_what_is_kept_comes_back(tmp_path, vgg, photo):
    targets = gram_file(tmp_path, vgg, photo)
    again = load_targets(tmp_path, "wave", 64, 2, STYLE_LAYERS, vgg)
    assert (again.sha256, again.size) == ("ab" * 32, 64)
    assert torch.equal(again.colours.mean, targets.colours.mean)
    assert torch.equal(again.colours.covariance, targets.colours.covariance)
    for was, now in zip(targets.grams, again.grams, strict=True):
        for layer, matrix in was.items():
            assert (now[layer] - matrix).abs().max() <= 5e-4 * matrix.abs().max()
            assert torch.equal(now[layer], now[layer].T)


def test_fewer_scales_and_layers_than_the_file_has(tmp_path, vgg, photo):
    gram_file(tmp_path, vgg, photo)
    (grams,) = load_targets(tmp_path, "wave", 64, 1, ["relu2_1"], vgg).grams
    assert list(grams) == ["relu2_1"]


def test_an_unknown_style_is_answered_with_the_known(tmp_path, vgg, photo):
    gram_file(tmp_path, vgg, photo)
    with pytest.raises(NotFound, match=r"Did you mean 'wave.*style_image"):
        load_targets(tmp_path, "waves", 64, 1, STYLE_LAYERS, vgg)


def test_another_size_scale_layer_or_loss_network_needs_the_image(tmp_path, vgg, photo):
    gram_file(tmp_path, vgg, photo)
    for size, scales, layers, network, says in (
        (65, 2, STYLE_LAYERS, vgg, "not for 65 px"),
        (64, 3, STYLE_LAYERS, vgg, r"2\.relu1_1, 2\.relu2_1, 2\.relu3_1"),
        (64, 2, ["relu1_2"], vgg, r"0\.relu1_2, 1\.relu1_2"),
        (64, 2, STYLE_LAYERS, VGG16(sha256="other"), "and loss network other"),
    ):
        with pytest.raises(BadParameter, match=rf"is for 64 px.*{says}.*style_image"):
            load_targets(tmp_path, "wave", size, scales, layers, network)


def test_what_holds_no_grams(tmp_path, vgg):
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    with pytest.raises(BadCheckpoint):
        load_targets(tmp_path, "bad", 64, 1, STYLE_LAYERS, vgg)


def test_grams_without_colours_are_refused(tmp_path, vgg, photo):
    """As files were before they had colours."""
    gram_file(tmp_path, vgg, photo)
    path = tmp_path / "wave.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file({name: value for name, value in load_file(path).items() if name != "mean"}, path, metadata)
    with pytest.raises(BadCheckpoint, match="does not hold"):
        load_targets(tmp_path, "wave", 64, 1, STYLE_LAYERS, vgg)


@pytest.mark.parametrize("style", PARENTS)
def test_the_reports_styles_need_no_image(vgg, style):
    targets = load_targets(ROOT / "models/styles", style, STYLE_SIZE, SCALES, STYLE_LAYERS, vgg)
    for grams in targets.grams:
        for layer, matrix in grams.items():  # a Gram matrix is positive
            assert np.linalg.eigvalsh(matrix.numpy()).min() > -1e-3 * matrix.abs().max(), layer
    assert np.linalg.eigvalsh(targets.colours.covariance.numpy()).min() > 0
    assert targets.colours.mean.min() > 0 and targets.colours.mean.max() < 255
