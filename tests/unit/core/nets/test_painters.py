import copy

import pytest
import torch
from torch import nn

from impasto.core.errors import BadParameter, NotFound
from impasto.core.names import padding
from impasto.core.nets.painters import PIXEL_MEAN, PIXEL_SCALE, AONet, FoldedUp, ReflectConv2d, Up, build, fold

SIZES = [(16, 16), (16, 33), (37, 50), (64, 48)]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def test_aonet_has_the_reports_parameters():
    assert parameters(build("aonet")) == 1_679_235
    assert parameters(build("aonet", upsample="deconv")) == 1_679_235


def test_aonet_reads_like_its_table():
    convs = [m for m in AONet("deconv").modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0]) for m in convs] == [
        (3, 32, 9, 1),
        (32, 64, 3, 2),
        (64, 128, 3, 2),
        *[(128, 128, 3, 1)] * 10,
        (128, 64, 3, 2),
        (64, 32, 3, 2),
        (32, 3, 9, 1),
    ]
    assert all(isinstance(m, ReflectConv2d) for m in convs if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (9, 1)])
def test_a_convolution_sees_the_reflection_beyond_the_borders(kernel, stride):
    ours = ReflectConv2d(4, 5, kernel, stride)
    theirs = nn.Conv2d(4, 5, kernel, stride, padding=kernel // 2, padding_mode="reflect")
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, 12, 17)
    torch.testing.assert_close(ours(x), theirs(x))


def test_padding_stays_in_bfloat16():
    conv, x = ReflectConv2d(4, 5, 3), torch.randn(1, 4, 8, 8).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert x.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("arch", ["aonet", "vgg16"])
def test_the_last_convolution_speaks_in_units_around_mid_grey(arch, encoder):
    net = build(arch, encoder)
    last = net.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.0, 1, -1]))
        found = net(torch.rand(1, 3, 32, 32) * 255)
    wanted = torch.tensor([PIXEL_MEAN, PIXEL_MEAN + PIXEL_SCALE, PIXEL_MEAN - PIXEL_SCALE]).view(1, 3, 1, 1)
    assert torch.equal(found, wanted.expand_as(found))


def test_vgg16_starts_from_its_encoders_convolutions_and_leaves_them_alone(whole):
    net = build("vgg16", whole)
    kernel = net.layers[0].weight
    assert torch.equal(kernel, whole.convs["relu4_3"].weight)
    assert kernel.data_ptr() != whole.convs["relu4_3"].weight.data_ptr()
    assert not any(p.requires_grad for p in net.encoder.parameters())


@pytest.mark.parametrize("arch", ["aonet", "vgg16"])
@pytest.mark.parametrize("upsample", ["nearest", "deconv"])
@pytest.mark.parametrize("size", SIZES)
def test_any_size_comes_back(arch, upsample, size, encoder):
    net = build(arch, encoder, upsample)
    with torch.no_grad():
        assert net(torch.rand(1, 3, *size) * 255).shape == (1, 3, *size)


def test_what_vgg16_paints_from_does_not_say_where_the_borders_are(encoder):
    net, seen = build("vgg16", encoder), []
    net.layers.register_forward_pre_hook(lambda layers, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net(torch.tensor([200.0, 120, 40]).view(1, 3, 1, 1).expand(1, 3, 64, 96))
    torch.testing.assert_close(seen[0], seen[0][..., :1, :1].expand(1, 512, 8, 12), atol=1e-2, rtol=1e-3)


def test_a_map_has_three_places_a_side_or_more():
    assert padding(16, 33, 8) == (8, 7)
    assert padding(24, 17, 8) == (0, 7)
    assert padding(16, 19, 4) == (0, 1)


def test_vgg16_needs_an_encoder_and_no_front(vgg):
    with pytest.raises(BadParameter, match="needs its encoder"):
        build("vgg16")
    with pytest.raises(BadParameter, match=r"ends at relu3_1, and relu4_2 is deeper"), torch.no_grad():
        build("vgg16", vgg)(torch.zeros(1, 3, 32, 32))


def test_a_side_under_16_px_is_refused():
    with pytest.raises(BadParameter, match=r"64x15.*16 px"):
        build("aonet")(torch.zeros(1, 3, 15, 64))


def test_an_unknown_network_is_answered_with_the_known():
    with pytest.raises(NotFound, match=r"Did you mean 'aonet.*aonet, vgg16") as error:
        build("aonett")
    assert error.value.extra == {"known": ["aonet", "vgg16"], "nearest": "aonet"}


@pytest.mark.parametrize("size", [(2, 2), (5, 7), (8, 3)])
def test_folded_upsampling_is_the_same_function(size):
    up = Up(6, 4, "nearest")
    x = torch.randn(2, 6, *size)
    torch.testing.assert_close(FoldedUp(up)(x), up(x), atol=2e-6, rtol=0)


@pytest.mark.parametrize("arch", ["aonet", "vgg16"])
def test_a_folded_network_paints_the_same(arch, encoder):
    net = build(arch, encoder).eval()
    folded = fold(copy.deepcopy(net))
    picture = torch.rand(1, 3, 37, 50) * 255
    with torch.no_grad():
        torch.testing.assert_close(folded(picture), net(picture), atol=5e-3, rtol=0)  # of 255
    assert not any(isinstance(m, Up) for m in folded.modules())


def test_folding_leaves_transposed_convolutions():
    net = fold(build("aonet", upsample="deconv"))
    assert sum(isinstance(m, Up) for m in net.modules()) == 2
