import numpy as np
import pytest
import torch

from core.errors import BadCheckpoint, BadParameter, NotFound
from core.kept import KEPT_LAYERS
from core.losses import gram
from core.names import STYLES
from core.recipes import STYLE_LAYERS, STYLE_SIZE
from core.settings import ROOT
from core.styles import load_targets, save_targets, style_targets
from core.vgg import VGG16


def test_targets_are_the_grams_of_the_image_at_its_size(vgg, photo):
    targets = style_targets(photo, "0" * 64, 37, STYLE_LAYERS, vgg)
    picture = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
    expected = gram(vgg(picture, ["relu2_2"])["relu2_2"])[0]
    torch.testing.assert_close(targets.grams["relu2_2"], expected)
    assert set(targets.grams) == set(STYLE_LAYERS)


def test_what_is_kept_comes_back(tmp_path, vgg, photo):
    targets = style_targets(photo, "ab" * 32, 64, KEPT_LAYERS, vgg)
    save_targets(tmp_path / "mine.safetensors", targets, vgg)
    again = load_targets(tmp_path, "mine", 64, KEPT_LAYERS, vgg)
    assert again.sha256 == "ab" * 32
    for layer, matrix in targets.grams.items():
        assert (again.grams[layer] - matrix).abs().max() <= 5e-4 * matrix.abs().max()
        assert torch.equal(again.grams[layer], again.grams[layer].T)


def test_an_unknown_style_is_answered_with_the_known(tmp_path, vgg, photo):
    save_targets(tmp_path / "wave.safetensors", style_targets(photo, "", 64, STYLE_LAYERS, vgg), vgg)
    with pytest.raises(NotFound, match=r"Did you mean wave.*style_image"):
        load_targets(tmp_path, "waves", 64, STYLE_LAYERS, vgg)


def test_another_size_layer_or_loss_network_needs_the_image(tmp_path, vgg, photo):
    save_targets(tmp_path / "wave.safetensors", style_targets(photo, "", 64, STYLE_LAYERS, vgg), vgg)
    for size, layers, network in (
        (65, STYLE_LAYERS, vgg),
        (64, ["relu1_1"], vgg),
        (64, STYLE_LAYERS, VGG16(sha256="other")),
    ):
        with pytest.raises(BadParameter, match=r"kept at 64 px.*style_image"):
            load_targets(tmp_path, "wave", size, layers, network)


def test_what_holds_no_grams(tmp_path, vgg):
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    with pytest.raises(BadCheckpoint):
        load_targets(tmp_path, "bad", 64, STYLE_LAYERS, vgg)


@pytest.mark.parametrize("style", STYLES)
def test_the_reports_styles_need_no_image(vgg, style):
    targets = load_targets(ROOT / "models/styles", style, STYLE_SIZE, KEPT_LAYERS, vgg)
    for layer, matrix in targets.grams.items():
        assert np.linalg.eigvalsh(matrix.numpy()).min() > -1e-3 * matrix.abs().max(), layer  # a Gram matrix is positive
