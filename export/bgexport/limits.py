"""The tolerances that an export is held to, each with its reason.

Differences are between alphas in [0, 1]; one grey level of an 8-bit matte is 1/255.
"""

from __future__ import annotations

from dataclasses import dataclass

GREY_LEVEL = 1 / 255
"""The smallest difference that an 8-bit matte can show."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far one engine and precision may be from PyTorch in FP32 on the same network inputs."""

    max_difference: float
    """Largest |Δalpha| of any pixel of any photo."""
    mean_difference: float
    """Largest mean |Δalpha| of any photo."""
    iou: float
    """Smallest IoU between both masks (alpha > 0.5), photos with a person only."""


TOLERANCES = {
    # The same arithmetic in another order: about 1e-6 after some 60 convolutions. 1e-3 is a quarter of a grey
    # level; a wrong operator or a forgotten normalisation shows as 0.1 and more.
    "fp32": Tolerance(max_difference=1e-3, mean_difference=1e-5, iou=0.9995),
    # Another's network with and without what is put around it: FP32 in another order, and where "minmax" spreads the
    # answer over 0 to 1, its rounding as well. A wrong mean or order of channels shows as 0.1 and more.
    "wrapped": Tolerance(max_difference=0.02, mean_difference=1e-4, iou=0.99),
    # FP16 keeps 11 bits: logits are good to about 0.01, which is 0.0025 where the sigmoid is steepest; single
    # pixels on an edge may move more. On average it must stay invisible in 8 bits.
    "fp16": Tolerance(max_difference=0.05, mean_difference=0.25 * GREY_LEVEL, iou=0.99),
    # Only the weights are FP16, their products and sums are FP32: half a grey level on average stays invisible.
    "fp16-weights": Tolerance(max_difference=0.1, mean_difference=0.5 * GREY_LEVEL, iou=0.99),
    # INT8 moves edges. Whether it is good enough is decided by the labels (MAX_IOU_LOSS); these catch an engine that
    # computes something else, as OpenVINO does with signed activations (mean 0.15).
    "int8-cpu": Tolerance(max_difference=1.0, mean_difference=8 * GREY_LEVEL, iou=0.80),
    "int8-gpu": Tolerance(max_difference=1.0, mean_difference=10 * GREY_LEVEL, iou=0.80),
}
"""By precision."""

MAX_IOU_LOSS = 0.01
"""INT8 is accepted where the mean IoU against the labels drops by no more: what separates two trainings."""

BATCH_MATE_DIFFERENCE = 1e-3
"""A photo alone and the same photo in a batch: kernels may be chosen by batch size, which changes the last bits of
FP32. A quarter of a grey level; batch statistics at test time would show as 0.1."""

ALPHA_SLACK = 1e-6
"""FP32 sigmoids of some engines round to a hair over 1."""

MIN_PERSON = 0.01
"""IoU is compared on photos where the reference marks at least this share of the pixels; below, a handful of
pixels decide it."""

MAX_PAGE_BYTES = 8 * 1024 * 1024
"""A page should not make its visitor load more than this for the network; other removers' pages load 44 to 88 MB."""
