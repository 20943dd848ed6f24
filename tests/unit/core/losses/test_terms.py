import pytest
import torch

from impasto.core.losses.terms import content_loss, excess_loss, gram, style_loss, tv_loss, variance


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


def by_the_formula(features: torch.Tensor) -> torch.Tensor:
    """`A = F @ F.T / (N * M)` (eq. 1), for autograd to differentiate."""
    b, n, h, w = features.shape
    f = features.reshape(b, n, h * w)
    return f @ f.transpose(1, 2) / (n * h * w)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_grams_own_gradient_is_that_of_its_formula(layout):
    features = torch.rand(2, 5, 4, 3, dtype=torch.float32).to(memory_format=layout).requires_grad_()
    weights = torch.rand(2, 5, 5)  # not symmetric: neither is the gradient of a loss of one entry
    (mine,) = torch.autograd.grad((gram(features) * weights).sum(), features)
    (wanted,) = torch.autograd.grad((by_the_formula(features) * weights).sum(), features)
    torch.testing.assert_close(gram(features), by_the_formula(features))
    torch.testing.assert_close(mine, wanted)


def test_the_gradient_of_a_gram_matrix_has_its_features_shape_and_type():
    features = torch.rand(1, 3, 4, 5).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        gram(features).square().sum().backward()
    assert features.grad is not None
    assert (features.grad.shape, features.grad.dtype) == (features.shape, torch.bfloat16)
    exact = features.detach().float().requires_grad_()
    by_the_formula(exact).square().sum().backward()
    torch.testing.assert_close(features.grad.float(), exact.grad, rtol=0.02, atol=1e-3)


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


def test_total_variation_of_a_checkerboard_and_of_a_plain():
    checkerboard = (torch.arange(4)[:, None] + torch.arange(4)) % 2 * 10.0
    assert tv_loss(checkerboard[None, None]) == 200  # every neighbour differs by 10, both ways
    assert tv_loss(torch.full((1, 3, 4, 4), 7.0)) == 0


def test_excess_is_what_cannot_be_seen():
    assert excess_loss(torch.tensor([-3.0, 0, 255, 259]).view(1, 1, 2, 2)) == (9 + 16) / 4


def test_the_gradient_of_excess_pulls_back_what_is_beyond_and_nothing_else():
    pictures = torch.tensor([-3.0, 0, 255, 259]).view(1, 1, 2, 2).requires_grad_()
    excess_loss(pictures).backward()
    assert pictures.grad is not None
    assert pictures.grad.flatten().tolist() == [-1.5, 0, 0, 2]  # 2 x / 4


def test_variance_is_around_each_channels_mean():
    features = torch.tensor([[1.0, 3, 1, 3], [110, 100, 100, 110]]).view(1, 2, 2, 2)
    assert variance(features) == (1 + 25) / 2
    assert variance(torch.full((2, 3, 4, 4), 7.0)) == 0
    assert content_loss(features.mean((2, 3), keepdim=True).expand_as(features), features) == variance(features)
