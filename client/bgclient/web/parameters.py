"""The parameters of ``POST /v1.0/removebg``, after the remove.bg API: their names, their values, their meaning.

Pure: texts and bytes in, ``Wanted`` out, no I/O. ``Wanted`` is the one list; parsing, OpenAPI and documentation
read it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from PIL import ImageColor
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
)

from bgclient.web.errors import Refusal
from bgimage import strokes
from bgimage.errors import OptionError
from bgimage.options import Options
from bgimage.strokes import Mark

Fields = Mapping[str, str | bytes]
"""What was sent: texts, and the bytes of ``FILES``. An empty value counts as not given."""

Behind = tuple[int, int, int, int] | bytes | None
"""A background: a colour with its opacity, or a picture, encoded."""

FILES = ("image_file", "bg_image_file")
"""Parameters that are uploads."""
SOURCES = ("image_file", "image_file_b64", "image_url")
"""Exactly one of them is given."""
BACKGROUNDS = ("bg_color", "bg_image_url", "bg_image_file")
"""At most one of them is given."""

MAX_PIXELS = {
    **dict.fromkeys(("preview", "small", "regular"), 250_000),
    "medium": 1_500_000,
    "hd": 4_000_000,
    **dict.fromkeys(("full", "4k", "50mp", "auto"), None),
}
"""Pixels of the result by ``size``; None: as many as the photo has."""

_HEX = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})")
_LENGTH = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(px|%)?")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%")
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,", re.ASCII)


@dataclass(frozen=True)
class Length:
    """Pixels, or a percentage of an extent."""

    number: float
    percent: bool = False

    def pixels(self, extent: int) -> float:
        """Pixels of an extent of that many."""
        return self.number * extent / 100 if self.percent else self.number


def _lengths(text: str) -> list[Length]:
    found = [_LENGTH.fullmatch(word) for word in text.split()]
    if not found or not all(found):
        raise ValueError('use lengths such as "20px" or "5%"')
    return [Length(float(match[1]), match[2] == "%") for match in found if match]


def _roi(text: str) -> tuple[Length, Length, Length, Length]:
    corners = _lengths(text)
    if len(corners) != 4:
        raise ValueError('use "x1 y1 x2 y2", each in px or %')
    return corners[0], corners[1], corners[2], corners[3]


def _crop_margin(text: str) -> str:
    sides = _lengths(text)
    if len(sides) not in (1, 2, 4):
        raise ValueError("use 1, 2 (vertical, horizontal) or 4 (top, right, bottom, left) lengths")
    if any(side.number > (50 if side.percent else 500) for side in sides):
        raise ValueError("at most 50% of the subject, or 500px")
    return " ".join(text.split())


def _percent(text: str) -> float:
    match = _PERCENT.fullmatch(text)
    if not match or float(match[1]) > 100:
        raise ValueError('use "0%" to "100%"')
    return float(match[1]) / 100


def _scale(text: str) -> float | None:
    if text.lower() == "original":
        return None
    scale = _percent(text)
    if scale < 0.1:
        raise ValueError('use "original" or "10%" to "100%"')
    return scale


def _position(text: str) -> str | tuple[float, float]:
    if text.lower() in ("original", "center"):
        return text.lower()
    words = [_percent(word) for word in text.split()]
    if len(words) not in (1, 2):
        raise ValueError('use "original", "center", "0%" to "100%", or two of them (horizontal, vertical)')
    return words[0], words[-1]


def _colour(text: str) -> tuple[int, int, int, int] | None:
    """The colour, or None where it is fully transparent."""
    digits = _HEX.fullmatch(text)
    try:
        red, green, blue, *rest = ImageColor.getrgb(f"#{digits[1]}" if digits else text)
    except ValueError:
        if text.lower() == "transparent":
            return None
        raise ValueError("use 3, 4, 6 or 8 hex digits, or a colour's name") from None
    opacity = rest[0] if rest else 255
    return (red, green, blue, opacity) if opacity else None


def _url(text: str) -> str:
    if len(text) > 4096 or not text.lower().startswith(("http://", "https://")):
        raise ValueError("use an http:// or https:// URL")
    return text


def _base64(text: str) -> bytes:
    start = _DATA_URL.match(text)
    try:
        packed = text[start.end() if start else 0 :].encode("ascii").translate(None, b" \t\r\n\v\f")
        return base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None


def _marks(text: str) -> tuple[Mark, ...]:
    try:
        return strokes.checked("marks", json.loads(text))
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    except OptionError as error:
        raise ValueError(str(error)) from None


_TEXT: Any = {"type": "string"}
_LENGTH_WORD = r"[0-9]{1,6}(\.[0-9]{1,6})?(px|%)?"
_ROI = {"pattern": rf"^{_LENGTH_WORD}( {_LENGTH_WORD}){{3}}$"}
_MARGIN = {"pattern": rf"^{_LENGTH_WORD}( {_LENGTH_WORD}(( {_LENGTH_WORD}){{2}})?)?$"}
_SCALE = {"pattern": r"^(original|100%|[1-9][0-9]%)$"}
_POSITION = {"pattern": r"^(original|center|(100|[1-9]?[0-9])%( (100|[1-9]?[0-9])%)?)$"}

_Upload = Annotated[bytes | None, Field(repr=False), WithJsonSchema(_TEXT | {"format": "binary"})]
_Base64 = Annotated[bytes | None, PlainValidator(_base64), Field(repr=False), WithJsonSchema(_TEXT)]
_Url = Annotated[str | None, PlainValidator(_url), WithJsonSchema(_TEXT | {"maxLength": 4096})]
_Roi = Annotated[tuple[Length, ...] | None, PlainValidator(_roi), WithJsonSchema(_TEXT | _ROI)]
_Marks = Annotated[
    tuple[Mark, ...],
    PlainValidator(_marks),
    WithJsonSchema(_TEXT | {"contentMediaType": "application/json"}),
]
_Margin = Annotated[str, PlainValidator(_crop_margin), WithJsonSchema(_TEXT | _MARGIN)]
_Scale = Annotated[float | None, PlainValidator(_scale), WithJsonSchema(_TEXT | _SCALE)]
_Position = Annotated[
    str | tuple[float, float] | None, PlainValidator(_position), WithJsonSchema(_TEXT | _POSITION)
]
_Colour = Annotated[tuple[int, int, int, int] | None, PlainValidator(_colour), WithJsonSchema(_TEXT)]
_AnyCase = BeforeValidator(str.lower)


class Wanted(BaseModel):
    """A request that makes sense as far as can be checked without the photo. Unknown fields are ignored, as remove.bg
    does.
    """

    model_config = ConfigDict(frozen=True)

    image_file: _Upload = Field(None, description="Source image as an upload (multipart only).")
    image_file_b64: _Base64 = Field(
        None, description="Source image as base64, with or without a data: prefix."
    )
    image_url: _Url = Field(None, description="Source image as a URL, where the server allows it.")
    size: Annotated[
        Literal["preview", "small", "regular", "medium", "hd", "full", "4k", "50mp", "auto"], _AnyCase
    ] = Field(
        "preview",
        description="Resolution of the result: preview (0.25 megapixels; aliases small, regular), medium (1.5), hd "
        "(4), full (the photo's own; aliases 4k, 50mp), auto (as full).",
    )
    type: Annotated[Literal["auto", "person"], _AnyCase] = Field(
        "auto", description="What to look for. This server cuts people."
    )
    type_level: Annotated[Literal["none", "1", "2", "latest"], _AnyCase] = Field(
        "1", description="Detail of X-Type: none leaves it out."
    )
    format: Annotated[Literal["auto", "png", "jpg", "zip", "webp"], _AnyCase] = Field(
        "auto",
        description="auto (JPEG on an opaque background, else PNG), png, jpg (on white where no background covers "
        "it), zip (color.jpg and alpha.png), webp.",
    )
    roi: _Roi = Field(
        None,
        description='Where people may be, "x1 y1 x2 y2" in px or %; everything outside is background.',
        json_schema_extra={"default": "0% 0% 100% 100%"},
    )
    people: Annotated[Literal["subjects", "all", "main"], _AnyCase] = Field(
        "subjects",
        description="The people to keep: subjects (without passers-by), all, or main for the main person alone. (Not "
        "remove.bg's.)",
    )
    keep: _Marks = Field(
        (),
        description="What belongs to the cut-out: JSON of a list of marks, in pixels of the upright photo: [x, y], "
        '[left, top, right, bottom] or {"points": [[x, y], ...], "radius": 9}. The part that a mark touches is '
        "decided again. (Not remove.bg's.)",
        json_schema_extra={"default": "[]"},
    )
    remove: _Marks = Field(
        (),
        description="What does not belong to it; as keep. (Not remove.bg's.)",
        json_schema_extra={"default": "[]"},
    )
    crop: bool = Field(False, description="Crop off empty regions.")
    crop_margin: _Margin = Field(
        "0",
        description="Room around a crop: 1, 2 or 4 lengths in px or %, at most 50% of the subject or 500px.",
    )
    scale: _Scale = Field(
        None,
        description='Subject relative to the frame, "10%" to "100%", or original. Implies position=center.',
        json_schema_extra={"default": "original"},
    )
    position: _Position = Field(
        None,
        description='Where the subject goes: original, center, "0%" to "100%", or two of them (horizontal, vertical).',
    )
    channels: Annotated[Literal["rgba", "alpha"], _AnyCase] = Field(
        "rgba", description="rgba, or alpha for the matte alone."
    )
    add_shadow: bool = Field(False, description="A soft shadow under the people.")
    shadow_opacity: int = Field(60, ge=0, le=100, description="Strength of that shadow, 0 to 100.")
    semitransparency: bool = Field(
        False, description="Accepted for compatibility: edges are always semi-transparent."
    )
    bg_color: _Colour = Field(None, description="Background colour: 3, 4, 6 or 8 hex digits, or a name.")
    bg_image_url: _Url = Field(None, description="Background image as a URL, where the server allows it.")
    bg_image_file: _Upload = Field(
        None,
        description="Background image as an upload (multipart only): centred, fills the frame, keeps its aspect "
        "ratio.",
    )

    @property
    def image(self) -> bytes | None:
        """The photo, where it was sent and not named by ``image_url``."""
        return self.image_file or self.image_file_b64

    def options(self, size_hw: tuple[int, int], background: bytes | None = None) -> Options:
        """What is asked of a photo of that size.

        Args:
            size_hw: height and width of the upright photo, pixels.
            background: the picture behind ``bg_image_url``.

        Raises:
            Refusal: ``roi`` does not fit the photo.
            OptionError: a value that only the photo's size rules out.
        """
        behind = self.bg_image_file or background or self.bg_color
        format = self._format(behind)
        return Options(
            output="matte" if self.channels == "alpha" else "cutout",
            format=format,
            people=self.people,
            keep=self.keep,
            remove=self.remove,
            region=None if self.roi is None else self._box(size_hw),
            background=_on_white(behind) if format == "jpeg" else behind,
            max_pixels=MAX_PIXELS[self.size],
            crop=self.crop,
            margin=self.crop_margin,
            scale=self.scale,
            position=self.position or ("original" if self.scale is None else "center"),
            shadow=self.shadow_opacity / 100 if self.add_shadow else 0.0,
            require_person=True,
            drop_gps=True,
        )

    def _format(self, behind: Behind) -> str:
        """What the picture is encoded as; a PNG is what a zip's files are made from."""
        if self.format == "auto":
            opaque = isinstance(behind, bytes) or (behind is not None and behind[3] == 255)
            return "jpeg" if opaque and self.channels == "rgba" else "png"
        return {"jpg": "jpeg", "zip": "png"}.get(self.format, self.format)

    def _box(self, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        assert self.roi is not None
        height, width = size_hw
        xs = sorted(length.pixels(width) for length in self.roi[::2])
        ys = sorted(length.pixels(height) for length in self.roi[1::2])
        if xs[1] > width or ys[1] > height:
            raise Refusal(
                400,
                "roi_exceeds_bounds",
                "ROI exceeds image bounds",
                f"The given roi reaches {xs[1]:g}, {ys[1]:g}; the image has {width} x {height} pixels",
            )
        left, top, right, bottom = round(xs[0]), round(ys[0]), round(xs[1]), round(ys[1])
        if left >= right or top >= bottom:
            raise Refusal(
                400,
                "roi_region_empty",
                "ROI region is empty",
                "The given roi parameter defines an empty region",
            )
        return left, top, right, bottom


def _on_white(behind: Behind) -> Behind:
    """An opaque background: JPEG has no transparency."""
    if isinstance(behind, bytes):
        return behind
    *colour, opacity = behind or (255, 255, 255, 255)
    red, green, blue = (round((value * opacity + 255 * (255 - opacity)) / 255) for value in colour)
    return red, green, blue, 255


def read(fields: Fields) -> Wanted:
    """The request that ``fields`` describe.

    Raises:
        Refusal: 400 with remove.bg's code for what is wrong.
    """
    given = {name: value for name, value in fields.items() if value not in ("", b"")}
    sources = [name for name in SOURCES if name in given]
    if not sources:
        raise Refusal(400, "missing_source", "No image given", f"Please give one of {', '.join(SOURCES)}")
    if len(sources) > 1:
        raise Refusal(
            400,
            "multiple_sources",
            "Multiple image sources given",
            f"Please give only one of {', '.join(sources)}",
        )
    for name, value in given.items():
        if name in Wanted.model_fields and (name in FILES) != isinstance(value, bytes):
            how = "an upload, multipart/form-data" if name in FILES else "text"
            raise invalid(name, f"send it as {how}")
    try:
        wanted = Wanted.model_validate(
            {name: value.strip() if isinstance(value, str) else value for name, value in given.items()}
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise invalid(str(first["loc"][0]), first["msg"].removeprefix("Value error, ")) from None
    behind = [name for name in BACKGROUNDS if getattr(wanted, name) is not None]
    if len(behind) > 1:
        raise Refusal(
            400,
            "multiple_bg_sources",
            "Multiple background sources given",
            f"Please give one of {', '.join(behind)}",
        )
    if wanted.format == "zip" and behind:
        raise invalid("format", "zip holds colour and alpha apart; leave the background out")
    return wanted


def invalid(name: str, advice: str) -> Refusal:
    """A parameter that is not what it has to be."""
    return Refusal(400, f"invalid_{name}", f"Invalid {name} parameter given", f"{name}: {advice}")
