import numpy as np
import torch

from impasto.core.pictures.tensors import to_array, to_tensor


def test_a_picture_becomes_a_tensor_and_comes_back():
    rgb = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    rgb.flags.writeable = False  # as one that Pillow lends
    picture = to_tensor(rgb)
    assert picture.shape == (1, 3, 2, 3) and picture.dtype == torch.float32 and picture.is_contiguous()
    assert picture[0, :, 1, 2].tolist() == rgb[1, 2].tolist()
    np.testing.assert_array_equal(to_array(picture), rgb)


def test_what_a_byte_cannot_hold_is_clipped_and_the_rest_rounded():
    values = torch.tensor([-3.0, 0.4, 0.6, 254.6, 300.0, 7.0]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_array(values)[0, :, 0].tolist() == [0, 0, 1, 255, 255, 7]
