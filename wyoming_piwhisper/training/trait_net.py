"""The network of `engine.trait_graph` in torch, to be trained."""

from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

from wyoming_piwhisper.engine.trait_graph import NORM_EPS, POOLED_BINS, SPREAD_FLOOR, STRIDES, WIDTHS

DROPOUT: Final = 0.2


class TraitNet(nn.Module):
    """Log-Mel (clips, mel bins, frames) to logits (clips, labels), for any number of frames from 8 on."""

    def __init__(self, labels: int) -> None:
        """Make the layers for so many labels."""
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride, 1, bias=False)
            for (before, after), stride in zip(pairwise(WIDTHS), STRIDES, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, NORM_EPS) for width in WIDTHS[1:])
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(2 * WIDTHS[-1] * POOLED_BINS, labels)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Logits, before temperature."""
        # The level of a recording says something of the microphone, not of the speaker.
        states = (log_mel - log_mel.mean(dim=(1, 2), keepdim=True))[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            after = torch.relu(norm(convolution(states)))
            states = after + states if after.shape == states.shape else after
        series = states.flatten(1, 2)
        spread = (series.var(dim=2, unbiased=False) + SPREAD_FLOOR).sqrt()
        logits: Tensor = self.head(self.dropout(torch.cat([series.mean(dim=2), spread], 1)))
        return logits
