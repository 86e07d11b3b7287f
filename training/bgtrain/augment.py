"""Joint augmentation of photo and matte: geometry, compositing, colour, blur, noise, JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bgimage.contract import Contract

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class TrainingPhoto:
    """A decoded training photo."""

    image: Image
    """uint8 (H, W, 3), RGB."""
    alpha: Image
    """uint8 (H, W), 255 = person."""
    label: str
    """pixel, polygon, pseudo, empty or none."""
    ignore: NDArray[np.bool_] | None = None
    """bool (H, W): pixels that the label leaves open."""
    confidence: float = 1.0
    """Weight of the label in the loss, in [0, 1]."""
    squeezed: bool = False
    """The photo was squeezed to a square: widening it by 1 to 1.5 restores natural shapes."""


@dataclass(frozen=True)
class AugmentConfig:
    """Probabilities in [0, 1] and ranges."""

    whole: float = 0.6
    """Share of crops that show about the whole photo, as serving does; the rest zoom in."""
    whole_scale: tuple[float, float] = (0.7, 1.2)
    """Long side of the photo over the crop's side, whole views."""
    zoom_scale: tuple[float, float] = (1.1, 2.4)
    """The same for zoomed views of photos without people."""
    zoom_person: tuple[float, float] = (0.45, 1.3)
    """Long side of one person (or group) over the crop's side in zoomed views: the small people of a street scene
    become the large people of a portrait."""
    max_enlarge: float = 3.0
    """No view enlarges the whole photo to more than this many crop sides."""
    shift: float = 0.15
    """How far a view's centre moves at most, over the crop's side, along each axis."""
    rotate: float = 0.3
    max_degrees: float = 15.0
    aspect: float = 1.15
    """The width is stretched by at most this factor, or its inverse."""
    composite: float = 0.35
    """Share of well-labelled people that move to another background."""
    second_person: float = 0.15
    """Share of composites that get a second person behind the first."""
    paste: float = 0.0
    """Share of the other crops that get a second person in front (Ghiasi et al. 2021, arXiv:2012.07177)."""
    colour: float = 0.8
    grey: float = 0.06
    blur: float = 0.12
    noise: float = 0.12
    jpeg: float = 0.25
    polygon_band: float = 0.02
    """Half width of the band along a coarse polygon in which the label counts little, over the crop's side."""
    polygon_band_weight: float = 0.25
    """Of the matte's loss in that band; the segmentation's counts in full."""
    pad_value: int = Contract.pad_value
    """Grey outside of the photo."""


def _someone(alpha: Image, rng: np.random.Generator) -> tuple[float, float, float] | None:
    """Centre x, centre y and long side of one connected person or group, large ones more often; None without people."""
    small = cv2.resize(alpha, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    _, _, stats, _ = cv2.connectedComponentsWithStats((small > 127).astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA].astype(float)
    if areas.sum() < 12:
        return None
    x, y, width, height, _ = 4.0 * stats[1 + rng.choice(len(areas), p=areas / areas.sum())]
    return x + width / 2, y + height / 2, max(width, height)


def _view(
    sample: TrainingPhoto, side: int, config: AugmentConfig, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Affine (2, 3) matrix that maps photo coordinates to a crop of ``side`` pixels."""
    height, width = sample.alpha.shape
    stretch = config.aspect ** rng.uniform(-1, 1) * (rng.uniform(1.0, 1.5) if sample.squeezed else 1.0)
    fill = side / max(height, width * stretch)
    whole = rng.random() < config.whole
    someone = None if whole else _someone(sample.alpha, rng)
    if someone is not None:
        low, high = config.zoom_person
        scale = low * (high / low) ** rng.random() * side / (someone[2] * stretch)
        scale = float(np.clip(scale, fill * config.whole_scale[0], fill * config.max_enlarge))
    else:
        low, high = config.whole_scale if whole else config.zoom_scale
        scale = low * (high / low) ** rng.random() * fill
    angle = np.deg2rad(rng.uniform(-1, 1) * config.max_degrees) if rng.random() < config.rotate else 0.0
    flip = -1.0 if rng.random() < 0.5 else 1.0
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    matrix = np.array([[flip * stretch * cos, -sin], [flip * stretch * sin, cos]])
    target = side / 2 + rng.uniform(-config.shift, config.shift, 2) * side
    if someone is not None:
        centre = np.array(someone[:2])
    elif whole:
        centre = np.array([width, height]) / 2
    else:
        centre = rng.uniform(0.2, 0.8, 2) * (width, height)
    return np.column_stack([matrix, target - matrix @ centre])


def _cover(size_hw: tuple[int, int], side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Affine (2, 3) matrix under which the photo covers the whole crop."""
    height, width = size_hw
    scale = side / min(height, width) * rng.uniform(1.0, 1.6)
    flip = rng.random() < 0.5
    shift = rng.random(2) * (side - scale * np.array([width, height]))
    if flip:
        return np.array([[-scale, 0, scale * width + shift[0]], [0, scale, shift[1]]])
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


def _warp(image: Image, matrix: NDArray[np.float64], side: int, border: int) -> Image:
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if scale < 0.6:  # shrink first, or thin things alias
        factor = max(scale * 1.2, 8 / min(image.shape[:2]))
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        matrix = np.column_stack([matrix[:, :2] / factor, matrix[:, 2]])
    value = (border,) * 3 if image.ndim == 3 else border
    return cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=value
    )


def _placed(
    sample: TrainingPhoto, side: int, config: AugmentConfig, rng: np.random.Generator
) -> tuple[Image, Image]:
    """Image and alpha of a view of their own."""
    matrix = _view(sample, side, config, rng)
    return _warp(sample.image, matrix, side, config.pad_value), _warp(sample.alpha, matrix, side, 0)


def _colour(image: Image, config: AugmentConfig, rng: np.random.Generator) -> Image:
    if rng.random() >= config.colour:
        return image
    gamma, gain = np.exp(rng.normal(0, 0.2)), rng.uniform(0.75, 1.25)
    cast = np.exp(rng.normal(0, 0.06, 3)) * gain
    ramp = np.linspace(0, 1, 256)[:, None] ** gamma
    contrast = rng.uniform(0.75, 1.25)
    table = np.clip(((ramp * cast - 0.45) * contrast + 0.45) * 255, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table[:, None, :])
    saturation = 0.0 if rng.random() < config.grey else rng.uniform(0.6, 1.4)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, saturation, grey, 1 - saturation, 0)


def _camera(image: Image, config: AugmentConfig, rng: np.random.Generator) -> Image:
    """What lens, sensor and file format do."""
    if rng.random() < config.blur:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5))
    if rng.random() < config.noise:
        grain = rng.normal(0, rng.uniform(2, 10), image.shape).astype(np.float32)
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    if rng.random() < config.jpeg:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))])
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return image


def _blend(foreground: Image, background: Image, alpha: Image) -> Image:
    # the outermost rim still holds the old background's colour: leave it out
    share = np.clip((alpha.astype(np.float32) - 40) / 215, 0, 1)[..., None]
    return (foreground * share + background * (1 - share) + 0.5).astype(np.uint8)


def augment(
    sample: TrainingPhoto,
    side: int,
    config: AugmentConfig,
    rng: np.random.Generator,
    *,
    background: TrainingPhoto | None = None,
    second: TrainingPhoto | None = None,
) -> tuple[Image, Image, Image, Image]:
    """One training crop: image uint8 (side, side, 3); alpha uint8 (side, side), in 255ths.

    Then the loss weights of the matte and of the segmentation, uint8 (side, side), in 255ths.

    ``background`` replaces everything around the person; ``second`` then stands behind them, otherwise in front.
    """
    matrix = _view(sample, side, config, rng)
    image = _colour(_warp(sample.image, matrix, side, config.pad_value), config, rng)
    alpha = _warp(sample.alpha, matrix, side, 0)
    weight = np.full((side, side), round(255 * sample.confidence), np.uint8)
    band = np.zeros((side, side), bool)
    if background is not None:
        behind = _warp(
            background.image, _cover(background.image.shape[:2], side, rng), side, config.pad_value
        )
        behind = _colour(behind, config, rng)
        if second is not None:
            person, other = _placed(second, side, config, rng)
            behind = _blend(person, behind, other)
            image = _blend(image, behind, alpha)
            alpha = np.maximum(alpha, other)
        else:
            image = _blend(image, behind, alpha)
    elif sample.label == "polygon":
        width = max(1, round(config.polygon_band * side))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
        band = cv2.morphologyEx((alpha > 127).astype(np.uint8), cv2.MORPH_GRADIENT, kernel) > 0
    if sample.ignore is not None:
        weight[_warp(sample.ignore.astype(np.uint8) * 255, matrix, side, 0) > 127] = 0
    if background is None:
        inside = cv2.warpAffine(
            np.ones(sample.alpha.shape, np.uint8), matrix, (side, side), flags=cv2.INTER_NEAREST
        )
        if second is not None:
            person, other = _placed(second, side, config, rng)
            other *= inside
            image = _blend(_colour(person, config, rng), image, other)
            alpha = np.maximum(alpha, other)
            weight[other > 127] = round(255 * second.confidence)
            band[other > 127] = False
    matte_weight = weight.copy()
    matte_weight[band] = round(255 * sample.confidence * config.polygon_band_weight)
    image = _camera(image, config, rng)
    if background is None:  # serving pads after everything else
        image[inside == 0] = config.pad_value
    return image, alpha, np.minimum(matte_weight, weight), weight
