import pytest
import torch

from core.losses import (
    brightness_loss,
    checkerboard_loss,
    content_loss,
    excess_loss,
    gram,
    lattice_loss,
    style_loss,
    tiles,
    tv_loss,
    without_border,
)


def test_gram_of_a_constant():
    features = torch.full((1, 2, 3, 4), 5.0)
    # F @ F.T has M * c^2 everywhere: 12 * 25, divided by N * M = 24
    assert torch.equal(gram(features), torch.full((1, 2, 2), 12.5))


def test_gram_of_orthogonal_features_is_diagonal():
    features = torch.zeros(1, 2, 2, 2)
    features[0, 0, 0, 0] = 2
    features[0, 1, 1, 1] = 4
    # squared lengths 4 and 16, divided by 2 * 4
    assert torch.equal(gram(features), torch.tensor([[[0.5, 0], [0, 2.0]]]))


def test_gram_does_not_see_where_things_are():
    features = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(gram(features), gram(features.flip(2, 3)))


def test_gram_is_float32_whatever_the_features_are():
    features = torch.tensor([1.0, 2**-8]).bfloat16().view(1, 1, 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert gram(features).dtype == torch.float32
        assert gram(features).item() == (1 + 2**-16) / 2  # bfloat16 has 8 bits


def test_losses_of_equal_pictures_are_zero():
    features = torch.rand(2, 3, 8, 8)
    assert content_loss(features, features) == 0
    same = features[:1].expand(2, -1, -1, -1)
    assert style_loss(same, gram(features)[0]) < 1e-14


def test_content_loss_is_a_mean_of_squares():
    assert content_loss(torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2, 2), 3.0)) == 9


def test_style_loss_is_a_mean_of_squares():
    features = torch.full((1, 2, 3, 4), 5.0)
    assert style_loss(features, torch.full((2, 2), 10.5)) == 4


def test_tiles_are_parts_whose_grams_have_the_wholes_mean():
    features = torch.rand(2, 3, 9, 13)
    parts = tiles(features, 2)
    assert parts.shape == (8, 3, 4, 6)
    assert torch.equal(parts[6], features[1, :, 4:8, :6])  # of the second picture, below on the left
    whole = gram(features[..., :8, :12])
    torch.testing.assert_close(gram(parts).reshape(2, 4, 3, 3).mean(1), whole)
    assert torch.equal(tiles(features, 1), features)


def test_borders_are_left_out():
    features = torch.rand(1, 2, 6, 8)
    assert torch.equal(without_border(features, 2), features[:, :, 2:4, 2:6])
    assert torch.equal(without_border(features, 0), features)


def test_total_variation_of_a_checkerboard_and_of_a_plain():
    checkerboard = (torch.arange(4)[:, None] + torch.arange(4)) % 2 * 10.0
    assert tv_loss(checkerboard[None, None]) == 200  # every neighbour differs by 10, both ways
    assert tv_loss(torch.full((1, 3, 4, 4), 7.0)) == 0


def test_a_lattice_is_what_repeats_with_the_period():
    places = torch.arange(96)
    weave = (places[:, None] + places).remainder(2) * 10.0 + 3  # 5 above and below its mean
    slope = places[:, None] + 2.0 * places
    for period in (4, 8):
        assert lattice_loss(weave[None, None], period) == 25
        assert lattice_loss(slope[None, None], period) == 0
    assert lattice_loss((places % 7 > 3).expand(1, 1, 96, 96) * 10.0, 4) < 1  # repeats, but not with that period


def test_a_checkerboard_is_what_alternates_in_all_of_a_picture_or_in_a_stroke():
    places = torch.arange(96)
    weave = (places[:, None] + places).remainder(2) * 10.0 + 3  # 5 above and below its mean
    stroke = (weave * (places < 24))[None, None]  # a quarter of the picture, as high as it is
    assert checkerboard_loss(weave[None, None]) == 25 + 25
    assert checkerboard_loss(stroke).item() == pytest.approx(25 / 4 + (24 / 48) ** 2 * 25 / 2)
    assert checkerboard_loss((places % 4 > 1).expand(1, 1, 96, 96) * 10.0) == 0  # two on, two off


def test_brightness_is_compared_without_colour_contrast_and_texture():
    slope = torch.arange(64.0).expand(2, 3, 64, 64)
    texture = (torch.arange(64) % 4 // 2 * 100.0)[:, None]
    red = slope * torch.tensor([2.0, 0.5, 0.5]).view(3, 1, 1) + 20
    assert brightness_loss(red + texture, slope) < 1e-5
    assert 1 - 1e-5 < brightness_loss(slope.transpose(2, 3), slope) < 1 + 1e-5
    assert brightness_loss(-slope, slope) > 2 - 1e-5
    assert brightness_loss(torch.full_like(slope, 9), slope) == 1
    flat = torch.full_like(slope, 9).requires_grad_()
    brightness_loss(flat, slope).backward()
    assert flat.grad is not None and flat.grad.isfinite().all() and flat.grad.any()


def test_excess_is_what_cannot_be_seen():
    assert excess_loss(torch.tensor([-3.0, 0, 255, 259]).view(1, 1, 2, 2)) == (9 + 16) / 4
