"""Photo, network's answer and options to the finished picture: the one path of server and client."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgimage import colour, compose, foreground, metadata, people, strokes, transparent
from bgimage import matte as mattes
from bgimage.arrays import eight_bits
from bgimage.codec import Limits, Photo, Pixels, decode, encode
from bgimage.compose import Box, Frame
from bgimage.contract import Contract
from bgimage.encode import ENCODERS, Picture
from bgimage.errors import BgError, Doubtful, NoPersonFound, OptionError
from bgimage.expected import expected_iou
from bgimage.geometry import crop_letterbox
from bgimage.once import cached_property
from bgimage.options import Options
from bgimage.tiles import bands

VISIBLE = 25
"""Matte level (of 255) from which a pixel counts for the people's box: a tenth, so that a crop keeps their hair."""


@dataclass(frozen=True, eq=False)
class Finished:
    """The finished picture and what is known about it."""

    picture: Pixels | Picture
    """What ``pixels`` holds; a plain cut-out makes its rows when they are asked for, and is then encoded without ever
    being whole in memory."""
    matte: NDArray[np.uint8]
    """uint8 (H, W): the alpha of the chosen people at the photo's own resolution, before cropping and placing."""
    box: Box | None
    """Left, top, right, bottom of the people in photo pixels; None where no person was found."""
    expected_iou: float
    """0..1: how good cut-outs with such an answer were on average (``bgimage.expected``); 0.0: nobody was found."""
    placed: Box | None = None
    """Left, top, right, bottom of the people in ``pixels``, after cropping, placing and scaling."""
    format: str = "png"
    quality: int | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    dropped: tuple[str, ...] = ()
    """What the photo's file held besides, and the picture does not: "XMP", "C2PA", "HDR gain map"."""
    looks: int = 1
    """2 where the answer is that of a second, closer look (``bgimage.closer``)."""

    @cached_property
    def pixels(self) -> Pixels:
        """(H, W, 4) RGBA with straight alpha, (H, W, 3) RGB where opaque, or (H, W) for a matte; the photo's dtype (a
        matte: uint8)."""
        return self.picture[:]

    def encode(self, format: str | None = None, *, quality: int | None = None) -> bytes:
        """Image bytes in ``format``, by default the one that the options asked for.

        Raises:
            OptionError: an unknown format, or one without transparency for a picture that has some.
        """
        made = vars(self).get("pixels", self.picture)
        format, quality = format or self.format, quality or self.quality
        return encode(made, format, quality=quality, icc=self.icc, exif=self.exif, dpi=self.dpi)

    def facts(self) -> bytes:
        """JSON of what a caller cannot see in the picture: ``{"box": [l, t, r, b] or null, "expected_iou": 0..1,
        "dropped": ["XMP", ...]}``."""
        known = {"box": self.box, "expected_iou": round(self.expected_iou, 6), "dropped": self.dropped}
        return json.dumps(known).encode()


def meant(
    photo: Photo, alpha: NDArray[np.float32], contract: Contract, options: Options
) -> tuple[NDArray[np.float32], float]:
    """The alpha of the people that ``options`` mean, float32 (h, w) without letterbox, and its expected IoU."""
    small = crop_letterbox(alpha, photo.size_hw, contract).clip(0, 1)
    if options.clean:
        small = people.cleaned(small)
    small = strokes.chosen(small, photo, options)
    return small, expected_iou(_inside(small, options.region, photo.size_hw) if options.region else small)


def finish(
    photo: Photo,
    alpha: NDArray[np.float32],
    contract: Contract,
    options: Options | None = None,
    *,
    looks: int = 1,
) -> Finished:
    """The picture that ``options`` ask for.

    Args:
        photo: at full resolution; its pixels stay as they are until the picture has been made.
        alpha: float32 (S, S) in [0, 1], the network's answer to ``network_input(photo, contract)``.
        looks: how many looks at the photo ``alpha`` took, for ``Finished.looks``.

    Raises:
        NoPersonFound: no people found and ``options.require_person``.
        Doubtful: the expected IoU is below ``options.at_least``.
        OptionError: an option that does not fit this photo, such as a point outside it or a background that is no
            picture.
    """
    options = options or Options()
    small, expected = meant(photo, alpha, contract, options)
    _check(expected, options)
    if options.colors == "srgb":
        photo = _in_srgb(photo)
    small = people.decided(small)
    if photo.alpha is not None:
        small = transparent.beneath(small, photo.alpha)
        photo = transparent.visible(photo)
    matte, shown = _mattes(photo, small, options)
    box = _box(matte)
    frame = Frame.of(box, (matte.shape[0], matte.shape[1]), options)
    if options.output == "matte":
        picture: Pixels | Picture = frame.placed(matte)
    else:
        picture = _picture(photo, matte, shown, frame, options)
    exif = photo.exif if options.keep_metadata else None
    return Finished(
        picture=picture,
        matte=matte,
        box=box,
        expected_iou=expected,
        placed=box and frame.box_in(box),
        format=options.format or _format(picture, photo),
        quality=options.quality,
        icc=photo.icc if len(picture.shape) == 3 else None,
        exif=metadata.kept_exif(exif, gps=False) if options.drop_gps else exif,
        dpi=photo.dpi if options.keep_metadata else None,
        dropped=photo.dropped,
        looks=looks,
    )


def _check(expected: float, options: Options) -> None:
    """``NoPersonFound`` or ``Doubtful`` where the options ask for more than this expected IoU."""
    if options.require_person and expected == 0:
        raise NoPersonFound("nobody was found where you asked; use another photo or point")
    if expected < options.at_least:
        raise Doubtful(
            f"expected IoU {expected:.2f}, below at_least={options.at_least:g}: look at this photo, "
            "and mend it with keep= or remove="
        )


def _mattes(
    photo: Photo, small: NDArray[np.float32], options: Options
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """uint8 (H, W) each: the people's alpha, and the alpha of what is shown (``output="inverse"``: the others)."""
    matte = mattes.refined(photo, small, options.edges)
    if options.region:
        matte = _inside(matte, options.region, photo.size_hw)
    shown = 255 - matte if options.output == "inverse" else matte
    if photo.alpha is not None:
        matte, shown = _times(matte, photo.alpha), _times(shown, photo.alpha)
    return matte, shown


def _inside(alpha: NDArray[Any], region: Box, size_hw: tuple[int, int]) -> NDArray[Any]:
    """``alpha`` (h, w) of a photo of that size, 0 outside ``region``; ``OptionError`` where that is no part of it."""
    (height, width), (rows, columns) = size_hw, alpha.shape
    left, top, right, bottom = region
    if left >= width or top >= height:
        raise OptionError(f"region={region}: outside the photo of {width} x {height} pixels")
    inside = np.zeros_like(alpha)
    # a small pixel that is partly inside counts; what is shown is decided at full resolution
    box = np.s_[
        top * rows // height : -(-bottom * rows // height),
        left * columns // width : -(-right * columns // width),
    ]
    inside[box] = alpha[box]
    return inside


def _picture(
    photo: Photo, matte: NDArray[np.uint8], shown: NDArray[np.uint8], frame: Frame, options: Options
) -> Pixels | Picture:
    """What ``shown`` leaves of the photo, in the frame, on what ``options.background`` says."""
    background = options.background
    cut = foreground.Cut(photo, shown, options.decontaminate)
    if background is None and not options.shadow and frame.keeps(shown.shape):
        return cut
    backdrop = _backdrop(photo, matte, frame, options)  # first: to decode it takes more memory than the layer
    layer: Any = cut if frame.keeps(shown.shape) else frame.placed(cut[:])
    if options.shadow:
        layer = layer[:]
        layer = compose.over_sheer(layer, (0, 0, 0), compose.shadow(layer[..., 3], options.shadow))
    if backdrop is None:
        return np.asarray(layer)
    if isinstance(background, tuple) and background[3] < 255:
        colour = tuple(int(value) for value in backdrop[0, 0])
        return compose.over_sheer(layer[:], colour, background[3] / 255)
    return compose.over(layer, backdrop)


def _backdrop(photo: Photo, matte: NDArray[np.uint8], frame: Frame, options: Options) -> NDArray[Any] | None:
    """What ``options.background`` says, of the frame's size and the photo's dtype and colours: (H, W, 3), or None."""
    background = options.background
    if background is None:
        return None
    size_hw = (frame.height, frame.width)
    if isinstance(background, tuple):
        paint = _paint(np.array([[background[:3]]], np.uint8), photo)
        return np.broadcast_to(paint, (*size_hw, 3))
    if isinstance(background, str):
        return compose.blurred(photo.pixels, matte, options.blur_radius or 0, frame)
    return _paint(compose.filling(_decoded(background), size_hw), photo)


def _decoded(data: bytes) -> NDArray[np.uint8]:
    """A background picture as uint8 sRGB (h, w, 3); its own transparency is laid on white."""
    try:
        picture = decode(data, Limits())
    except BgError as error:
        raise OptionError(f"background: {error}") from error
    if picture.alpha is None:
        pixels = eight_bits(picture.pixels)
    else:
        white = (np.iinfo(picture.pixels.dtype).max,) * 3
        pixels = np.empty(picture.pixels.shape, np.uint8)
        for rows in bands(len(pixels)):
            layer = np.dstack([picture.pixels[rows], picture.alpha[rows]])
            pixels[rows] = eight_bits(compose.over(layer, white))
    return colour.to_srgb(pixels, picture.icc) if picture.icc else pixels


def painted(colours: NDArray[np.uint8], icc: bytes | None, dtype: np.dtype[Any]) -> NDArray[Any]:
    """uint8 sRGB (h, w, 3) in a picture's colour space and depth, uint8 or uint16."""
    if icc:
        colours = colour.from_srgb(colours, icc)
    return colours if dtype == np.uint8 else np.multiply(colours, np.uint16(257), dtype=np.uint16)


def _paint(colours: NDArray[np.uint8], photo: Photo) -> NDArray[Any]:
    return painted(colours, photo.icc, photo.pixels.dtype)


def _in_srgb(photo: Photo) -> Photo:
    """The photo in sRGB, 8 bits a channel (the colour engine has no 16-bit RGB); itself without a profile."""
    if photo.icc is None:
        return photo
    pixels = colour.to_srgb(eight_bits(photo.pixels), photo.icc)
    return dataclasses.replace(photo, pixels=pixels, icc=None)


def _times(matte: NDArray[np.uint8], alpha: NDArray[Any]) -> NDArray[np.uint8]:
    """The product of two alphas, rounded; ``alpha`` uint8 or uint16."""
    depth = int(np.iinfo(alpha.dtype).max)
    product = np.empty_like(matte)
    for rows in bands(len(matte)):  # the wide numbers of a whole photo would need more memory than its pixels
        product[rows] = (matte[rows].astype(np.uint32) * alpha[rows] + depth // 2) // depth
    return product


def _box(matte: NDArray[np.uint8]) -> Box | None:
    rows, columns = np.flatnonzero(matte.max(1) >= VISIBLE), np.flatnonzero(matte.max(0) >= VISIBLE)
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _format(picture: Pixels | Picture, photo: Photo) -> str:
    """PNG for what has alpha or is a matte, else the photo's own format where we write it."""
    return photo.format if picture.shape[2:] == (3,) and photo.format in ENCODERS else "png"
