"""The grain that a network is shown: grey, of the deviation asked for, and the same for one picture each time."""

import numpy as np
import pytest

from core.grain import grained

GREY = np.full((200, 300, 3), 128, np.uint8)


def test_it_is_grey_and_of_its_deviation():
    noise = grained(GREY, 10).astype(float) - GREY
    assert (noise[..., 0] == noise[..., 1]).all() and (noise[..., 0] == noise[..., 2]).all()
    assert noise.std() == pytest.approx(10, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.2)


def test_one_picture_has_one_grain_and_a_part_of_it_the_same():
    assert (grained(GREY, 10) == grained(GREY, 10)).all()
    assert (grained(GREY[:50, :70], 10) == grained(GREY, 10)[:50, :70]).all()
    assert (grained(GREY, 10) != grained(GREY, 5)).any()


def test_white_and_black_stay_within_a_byte():
    ends = np.repeat(np.array([[0, 255]], np.uint8), 40, axis=0)[..., None].repeat(3, axis=2)
    noisy = grained(ends, 30).astype(int)
    assert (noisy[:, 0] < 128).all() and (noisy[:, 1] > 127).all()


@pytest.mark.parametrize("size", [(1024, 1024), (1025, 30), (16, 3000), (1, 1)])
def test_any_size(size):
    picture = np.full((*size, 3), 100, np.uint8)
    assert grained(picture, 10).shape == picture.shape


def test_without_a_deviation_it_is_the_picture():
    assert grained(GREY, None) is GREY
