import torch

from impasto.core.nets.packing import pack, unpack


def test_a_kernel_is_within_half_a_step():
    kernel = torch.randn(5, 4, 3, 3) * torch.tensor([1e-3, 1, 10, 1e-6, 0]).view(5, 1, 1, 1)
    packed = pack({"layer.weight": kernel, "layer.bias": torch.ones(5)})
    assert packed["layer.weight"].dtype == torch.int8
    assert packed["layer.bias"].dtype == torch.float16
    again = unpack(packed)
    assert set(again) == {"layer.weight", "layer.bias"}
    assert packed["layer.weight"].abs().max() < 50  # of normal rows, six deviations of eight steps at most
    step = kernel.flatten(1).std(1) / 8
    assert ((again["layer.weight"] - kernel).abs().flatten(1).amax(1) <= 0.6 * step + 1e-7).all()


def test_a_value_far_from_the_others_is_not_cut_off():
    kernel = torch.full((1, 1000, 1, 1), 0.01)
    kernel[0, 0] = -1
    again = unpack(pack({"weight": kernel}))["weight"]
    assert abs(again[0, 0] + 1) < 1 / 127


def test_what_is_not_packed_stays_as_it_is():
    weights = {"weight": torch.randn(2, 3, 3, 3), "bias": torch.randn(2)}
    assert all(torch.equal(value, weights[name]) for name, value in unpack(weights).items())
