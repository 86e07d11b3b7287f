"""Photos whose matte and foreground are known exactly: labelled people on other scenes, with soft edges and hair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bgtrain.shards import Shards

ENLARGE = 3
"""The labelled photos are small (0.2 megapixels); they are enlarged before edges are drawn at the final resolution."""


@dataclass(frozen=True, eq=False)
class Composite:
    """One photo and the truth about it."""

    name: str
    image: NDArray[np.uint8]
    """uint8 (H, W, 3), RGB: ``alpha * foreground + (1 - alpha) * background`` and a little sensor noise."""
    alpha: NDArray[np.float32]
    """float32 (H, W) in [0, 1]."""
    foreground: NDArray[np.float32]
    """float32 (H, W, 3) in 0..255, known everywhere."""


def composites(count: int, root: Path | None = None) -> Iterator[Composite]:
    """``count`` composites, always the same ones."""
    with (
        Shards(root, split="test", pools=["bg_scenes"]) as backgrounds,
        Shards(root, split="test", pools=["ccp"]) as people,
    ):
        scenes = [backgrounds.image(row.key) for row in backgrounds.rows]
        for number, row in enumerate(people.rows[:count]):
            matte = people.matte(row.key)
            assert matte is not None  # every photo of ccp is labelled
            rng = np.random.default_rng(number)
            yield composite(row.key, people.image(row.key), matte > 127, scenes[number % len(scenes)], rng)


def composite(
    name: str,
    photo: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    scene: NDArray[np.uint8],
    rng: np.random.Generator,
) -> Composite:
    """``photo``'s person (``mask``: bool (h, w)) on ``scene``, ``ENLARGE`` times larger."""
    height, width = (side * ENLARGE for side in mask.shape)
    own = cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)  # labels are 1-3 px off
    colours = cv2.resize(_extended(photo, own), (width, height), interpolation=cv2.INTER_CUBIC).astype(
        np.float32
    )
    scene = cv2.resize(scene, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    soft = cv2.resize(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5), (width, height))
    inside = (soft > 0.5).astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(
        1 - inside, cv2.DIST_L2, 5
    )
    blur = cv2.resize(
        rng.uniform(1, 7, (6, 4)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    step = np.clip(distance / np.maximum(blur, 1) / 2 + 0.5, 0, 1)
    edge = step * step * (3 - 2 * step)
    strands, tint = _hair(inside, rng)
    alpha = 1 - (1 - edge) * (1 - strands)
    foreground = np.clip(colours + tint[..., None], 0, 255)
    noise = rng.normal(0, 2, (height, width, 3)).astype(np.float32)
    image = alpha[..., None] * foreground + (1 - alpha[..., None]) * scene + noise
    return Composite(name, np.rint(image).clip(0, 255).astype(np.uint8), alpha.astype(np.float32), foreground)


def _extended(photo: NDArray[np.uint8], own: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Colours inside ``own``; outside, those of the nearest pixel inside."""
    _, labels = cv2.distanceTransformWithLabels(
        (~own).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros((labels.max() + 1, 3), np.uint8)
    table[labels[own]] = photo[own]
    filled = table[labels]
    smooth = cv2.GaussianBlur(filled, (0, 0), 2)
    return np.where(own[..., None], photo, smooth)


def _hair(
    inside: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Alpha of strands that leave the top of the person, and a change of brightness for each: float32 (H, W)."""
    height, width = inside.shape
    strands, tint = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    contour = max(cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)[:, 0]
    top, bottom = contour[:, 1].min(), contour[:, 1].max()
    head = contour[contour[:, 1] < top + 0.18 * (bottom - top)]
    centre = head.mean(0)
    shift = 4  # fractional bits of OpenCV's coordinates
    for _ in range(len(head) // 4):
        root = head[rng.integers(len(head))].astype(float)
        outward = (root - centre) / (np.linalg.norm(root - centre) + 1e-6)
        outward = outward + rng.normal(0, 0.5, 2) + [0, 0.4]
        length, bend = rng.uniform(8, 70), rng.normal(0, 0.35)
        along = np.linspace(-0.3, 1, 14)[:, None]
        side = np.array([-outward[1], outward[0]])
        points = root + length * (along * outward + bend * along**2 * side)
        line = np.zeros((height, width), np.uint8)
        box = np.array([points.min(0) - 3, points.max(0) + 4]).astype(int)
        (left, up), (right, down) = box.clip(0, [width, height])
        if right - left < 2 or down - up < 2:
            continue
        part = line[up:down, left:right].copy()
        fixed = np.rint((points - [left, up]) * (1 << shift)).astype(np.int32)
        cv2.polylines(part, [fixed[:, None]], False, 255, int(rng.integers(1, 3)), cv2.LINE_AA, shift)
        opacity = part.astype(np.float32) / 255 * rng.uniform(0.35, 1)
        region = np.s_[up:down, left:right]
        tint[region] = np.where(opacity > strands[region], rng.normal(0, 12), tint[region])
        strands[region] = 1 - (1 - strands[region]) * (1 - opacity)
    return strands, cv2.GaussianBlur(tint, (0, 0), 0.7)
