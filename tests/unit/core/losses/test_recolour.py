"""A photograph in a style's colours: what mean and covariance it has then, and that nothing else happens to it."""

import pytest
import torch

from impasto.core.losses.recolour import LEAST_SPREAD, Colours, colours_of, recoloured


def pictures(number: int = 2) -> torch.Tensor:
    """(number, 3, 32, 48): colours that hang together, 0..255."""
    random = torch.Generator().manual_seed(0)
    mixed = torch.rand(number, 3, 32 * 48, generator=random).sub(0.5)
    mix = torch.tensor([[90.0, 40, 0], [60, 90, 20], [10, 40, 90]])
    return (mix @ mixed + 128).reshape(number, 3, 32, 48)


STYLE = Colours(torch.tensor([200.0, 90, 40]), torch.tensor([[900.0, 300, -100], [300, 1600, 200], [-100, 200, 400]]))


def test_colours_of_two_colours():
    picture = torch.tensor([[0.0, 10], [0, 20], [5, 5]]).view(3, 1, 2)
    found = colours_of(picture)
    assert found.mean.tolist() == [5, 10, 5]
    assert found.covariance.tolist() == [[25, 50, 0], [50, 100, 0], [0, 0, 0]]


def test_each_picture_gets_the_styles_mean_and_covariance():
    photographs = pictures() * 2 - 128  # of a spread that LEAST_SPREAD is little of
    for before, after in zip(photographs, recoloured(photographs, STYLE), strict=True):
        found = colours_of(after)
        torch.testing.assert_close(found.mean, STYLE.mean, atol=0.01, rtol=0)
        short = LEAST_SPREAD / torch.linalg.eigvalsh(colours_of(before).covariance).min()
        assert short < 0.1
        assert (found.covariance - STYLE.covariance).norm() < short * STYLE.covariance.norm()


def test_where_only_variances_differ_each_channel_is_stretched():
    """Uncorrelated channels: the map is known on paper, `(x - m) * s_style / s + m_style`."""
    places = torch.arange(64)
    bits = torch.stack([places % 2, places // 2 % 2, places // 4 % 2]) * 2.0 - 1  # orthogonal, of mean 0, variance 1
    photograph = (bits * torch.tensor([[30.0], [40], [50]]) + 100).view(1, 3, 8, 8)
    style = Colours(torch.tensor([10.0, 20, 30]), torch.diag(torch.tensor([100.0, 400, 900])))
    spread = torch.tensor([[900.0], [1600], [2500]]) + LEAST_SPREAD
    wanted = photograph.view(3, 64).sub(100) * torch.tensor([[10.0], [20], [30]]) / spread.sqrt()
    wanted = wanted + style.mean[:, None]
    torch.testing.assert_close(recoloured(photograph, style).view(3, 64), wanted, atol=0.01, rtol=1e-4)


def test_of_all_maps_it_is_the_one_that_moves_colours_least():
    """So it is symmetric: it stretches along three axes and turns nothing."""
    photograph = pictures(1)
    x, y = (p[0].flatten(1) for p in (photograph, recoloured(photograph, STYLE)))
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    transform = torch.linalg.lstsq(x.T, y.T).solution.T
    torch.testing.assert_close(transform, transform.T, atol=1e-3, rtol=0)
    assert (transform - torch.diag(transform.diagonal())).abs().max() > 0.05
    assert torch.linalg.eigvalsh(transform).min() > 0


def test_in_its_own_colours_it_is_what_it_was():
    photographs = pictures(1)
    own = colours_of(photographs[0])
    spread = Colours(own.mean, own.covariance + LEAST_SPREAD * torch.eye(3))
    torch.testing.assert_close(recoloured(photographs, spread), photographs, atol=0.05, rtol=0)


@pytest.mark.parametrize("level", [0.0, 128, 255])
def test_one_colour_becomes_the_styles_mean_and_is_no_nan(level):
    flat = torch.full((1, 3, 16, 16), level)
    found = recoloured(flat, STYLE)
    torch.testing.assert_close(found, STYLE.mean.view(1, 3, 1, 1).expand_as(found), atol=0.01, rtol=0)


def test_a_style_of_one_colour_leaves_no_other():
    found = recoloured(pictures(), Colours(STYLE.mean, torch.zeros(3, 3)))
    torch.testing.assert_close(found, STYLE.mean.view(1, 3, 1, 1).expand_as(found), atol=0.05, rtol=0)
    assert found.isfinite().all()
