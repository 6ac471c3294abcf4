"""The smallest residual network that timm builds, registered under a name of its own: `import tiny_backbone`.

The artefacts of `data/written_by_0_1` hold its weights, some 10,000 numbers instead of millions.
"""

from __future__ import annotations

from typing import Any

import timm
from timm.models import register_model
from timm.models.resnet import BasicBlock, ResNet

NAME = "skyclass_tiny"


def skyclass_tiny(in_chans: int = 3, num_classes: int = 0, **_options: Any) -> ResNet:
    """One block of 4 or 8 channels a stage behind a stem of three convolutions."""
    return ResNet(
        block=BasicBlock,
        layers=(1, 1, 1, 1),
        channels=(4, 8, 8, 8),
        stem_width=4,
        stem_type="deep",
        in_chans=in_chans,
        num_classes=num_classes,
    )


if not timm.is_model(NAME):  # a module that is imported twice registers it once
    register_model(skyclass_tiny)
