"""The two networks that paint, AONet and VGG16Net.

Both map float32 RGB (B, 3, H, W) in 0..255, with H and W of 16 px or more, to the same shape. The output is not
clipped.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from impasto.core.errors import BadParameter
from impasto.core.names import ARCHES, Upsample, padding, unknown
from impasto.core.nets.vgg import VGG16

PIXEL_MEAN, PIXEL_SCALE = 127.5, 64.0
"""Offset and unit of the last convolution's output: mid-grey, and about the standard deviation of a photograph."""


class ReflectConv2d(nn.Conv2d):
    """A convolution with reflection padding: (B, inputs, h, w) -> (B, outputs, h/stride, w/stride)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride)
        self.border = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # autocast would pad in float32, a sixth of a step
            x = F.pad(x, (self.border,) * 4, mode="reflect")
        return super().forward(x)


def norm(channels: int) -> nn.InstanceNorm2d:
    return nn.InstanceNorm2d(channels, affine=True)


class Up(nn.Module):
    """Double the size: (B, inputs, h, w) -> (B, outputs, 2h, 2w).

    `nearest` is nearest-neighbour upsampling and a 3x3 convolution. `deconv` is the report's transposed convolution,
    which paints checkerboards.
    """

    def __init__(self, inputs: int, outputs: int, upsample: Upsample) -> None:
        super().__init__()
        self.upsample = upsample
        self.conv: ReflectConv2d | nn.ConvTranspose2d = (
            ReflectConv2d(inputs, outputs, 3)
            if upsample == "nearest"
            else nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.upsample == "nearest":
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")  # (B, C, h, w) -> (B, C, 2h, 2w)
        return self.conv(x)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """x plus two 3x3 convolutions of it, ReLU after the first and none after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ReflectConv2d(channels, channels, 3),
            norm(channels),
            nn.ReLU(),
            ReflectConv2d(channels, channels, 3),
            norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class Net(nn.Module):
    """The base of both networks. Pads a picture by reflection to multiples of `stride`, and crops the painting.

    `body` takes such multiples only. The engine compiles `body` alone.
    """

    stride: int
    layers: nn.Sequential
    frozen: tuple[str, ...] = ()
    """Names of submodules whose weights are not in the checkpoint."""

    def encoded(self, x: Tensor) -> Tensor:
        """The input of the first of `layers`, for pictures (B, 3, H, W)."""
        return x

    def body(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W), both in 0..255 or so; H and W multiples of `stride`."""
        return PIXEL_MEAN + PIXEL_SCALE * self.layers(self.encoded(x)).float()  # type: ignore[no-any-return]

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W). Raises BadParameter for a side under 16 px."""
        h, w = pictures.shape[-2:]
        down, right = padding(h, w, self.stride)
        x = F.pad(pictures, (0, right, 0, down), mode="reflect")
        return self.body(x)[..., :h, :w]


class AONet(Net):
    """The report's 'AO' network, 1.68 M parameters: InstanceNorm after every convolution but the last."""

    stride = ARCHES["aonet"].stride

    def __init__(self, upsample: Upsample = "nearest") -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(ReflectConv2d(3, 32, 9), norm(32), nn.ReLU()),  # (B, 32, H, W)
            *(ReflectConv2d(32, 64, 3, stride=2), norm(64), nn.ReLU()),  # (B, 64, H/2, W/2)
            *(ReflectConv2d(64, 128, 3, stride=2), norm(128), nn.ReLU()),  # (B, 128, H/4, W/4)
            *(Residual(128) for _ in range(5)),
            *(Up(128, 64, upsample), norm(64), nn.ReLU()),  # (B, 64, H/2, W/2)
            *(Up(64, 32, upsample), norm(32), nn.ReLU()),  # (B, 32, H, W)
            ReflectConv2d(32, 3, 9),  # (B, 3, H, W)
        )


class VGG16Net(Net):
    """The report's VGG16 network: VGG16 to relu4_2, frozen, then four convolutions of its own and a decoder.

    The four start from VGG16's conv4_3, conv5_1, conv5_2 and conv5_3 where the encoder has them. The bundled encoder
    ends at relu4_2; with it they start at random. InstanceNorm and ReLU replace the remaining max-pools. The report's
    code drops the ReLU after conv4_2; VGG16 has it, and so do we. The encoder pads by reflection, as every convolution
    here but deconv's: zeros would tell the network where the borders are, and it would paint strokes there.
    """

    stride = ARCHES["vgg16"].stride
    frozen = ("encoder",)

    def __init__(self, encoder: VGG16, upsample: Upsample = "nearest") -> None:
        super().__init__()
        self.encoder = encoder
        self.layers = nn.Sequential(
            *(ReflectConv2d(512, 512, 3), norm(512), nn.ReLU()),  # conv4_3 (B, 512, H/8, W/8)
            *(ReflectConv2d(512, 512, 3), norm(512), nn.ReLU()),  # conv5_1
            *(ReflectConv2d(512, 512, 3), norm(512), nn.ReLU()),  # conv5_2
            *(ReflectConv2d(512, 512, 3), norm(512), nn.ReLU()),  # conv5_3
            *(Up(512, 128, upsample), norm(128), nn.ReLU()),  # (B, 128, H/4, W/4)
            *(Up(128, 64, upsample), norm(64), nn.ReLU()),  # (B, 64, H/2, W/2)
            *(Up(64, 32, upsample), norm(32), nn.ReLU()),  # (B, 32, H, W)
            ReflectConv2d(32, 3, 7),  # (B, 3, H, W)
        )
        for k, name in enumerate(("relu4_3", "relu5_1", "relu5_2", "relu5_3")):
            if name in encoder.convs:
                self.layers[3 * k].load_state_dict(encoder.convs[name].state_dict())

    def encoded(self, x: Tensor) -> Tensor:
        return self.encoder(x, ["relu4_2"], padding_mode="reflect")["relu4_2"]  # type: ignore[no-any-return]


NETS: dict[str, type[Net]] = {"aonet": AONet, "vgg16": VGG16Net}


def build(arch: str, encoder: VGG16 | None = None, upsample: Upsample = "nearest") -> Net:
    """Build an untrained network. VGG16Net needs its frozen `encoder`. Raises NotFound for an unknown name."""
    if arch not in NETS:
        raise unknown("network", arch, NETS)
    if arch == "vgg16":
        if encoder is None:
            raise BadParameter("The vgg16 network needs its encoder: build('vgg16', load_encoder()).")
        return VGG16Net(encoder, upsample)
    return AONet(upsample)


class FoldedUp(nn.Module):
    """`Up("nearest")` as one 4x4 transposed convolution of stride 2, for inference: the same function, less work.

    Rows (columns) of the 3x3 kernel that meet the same small pixel are summed, so the kernel is spread over 2x2 blocks.
    One repeated pixel around the small map is what reflection is on the large one.
    """

    SPREAD = torch.tensor([[0.0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])  # (4, 3)

    def __init__(self, up: Up) -> None:
        super().__init__()
        kernel = self.SPREAD.to(up.conv.weight) @ up.conv.weight.detach() @ self.SPREAD.to(up.conv.weight).T
        outputs, inputs = kernel.shape[:2]
        self.conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=3)
        self.conv.weight.data = kernel.transpose(0, 1).contiguous()  # (inputs, outputs, 4, 4)
        assert up.conv.bias is not None
        self.conv.bias.data = up.conv.bias.detach().clone()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (1, 1, 1, 1), mode="replicate"))  # type: ignore[no-any-return]


def fold(net: Net) -> Net:
    """Replace every nearest `Up` of `net` by its `FoldedUp`, in place. The function stays the same."""
    for parent in net.modules():
        for name, child in parent.named_children():
            if isinstance(child, Up) and child.upsample == "nearest":
                setattr(parent, name, FoldedUp(child))
    return net
