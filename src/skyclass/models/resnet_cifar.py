"""The residual network for small images of He et al. 2016 (arXiv:1512.03385, section 4.2).

Depth 6n + 2: a 3x3 convolution of 16 channels, three stages of n blocks with 16, 32 and 64 channels, global average
pooling. Shortcuts have no parameters (their option A): where the size halves, the input is subsampled and its channels
are padded with zeros. It speaks timm's protocol (`forward_features`, `forward_head`, `num_features`,
`feature_info`, `group_matcher`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3x3 convolutions and the shortcut around them."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - channels_in

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, channels, ceil(H / stride), ceil(W / stride))."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            x = F.pad(x, (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(out + x)


class ResNetCifar(nn.Module):
    """Stages `layer1` to `layer3` behind a 3x3 stem; `blocks` a stage (3 makes 20 layers)."""

    num_features = 64
    feature_info = (  # timm's: the stages, their channels, and how much smaller than the images their maps are
        {"module": "layer1", "num_chs": 16, "reduction": 1},
        {"module": "layer2", "num_chs": 32, "reduction": 2},
        {"module": "layer3", "num_chs": 64, "reduction": 4},
    )

    def __init__(self, in_chans: int, blocks: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 64, ceil(H / 4), ceil(W / 4))."""
        x = F.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = True) -> Tensor:
        """(N, 64, h, w) -> (N, 64), the mean over the map; there are no logits here."""
        if not pre_logits:
            raise ValueError("this backbone has no classifier of its own")
        return torch.mean(x, dim=(2, 3))

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """timm's grouping of the parameters by depth, from their names: the stem, then each stage (or block)."""
        return {"stem": "^conv1|bn1", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 64)."""
        return self.forward_head(self.forward_features(x))


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = Block(channels_in, channels, stride)
    return nn.Sequential(first, *(Block(channels, channels, 1) for _ in range(blocks - 1)))


def resnet20_cifar(in_chans: int) -> ResNetCifar:
    """The 20-layer network: 0.27 million parameters."""
    return ResNetCifar(in_chans, blocks=3)
