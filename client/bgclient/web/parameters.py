"""The parameters of ``POST /v1.0/removebg``, after the remove.bg API: their names, their values, their meaning.

Pure: texts and bytes in, ``Wanted`` out, no I/O. ``PARAMETERS`` is the one list; parsing, OpenAPI and documentation
read it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import ImageColor

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

MAX_PIXELS = {"preview": 250_000, "medium": 1_500_000, "hd": 4_000_000, "full": None, "auto": None}
"""Pixels of the result by ``size``; None: as many as the photo has."""
_SIZE_ALIASES = {"small": "preview", "regular": "preview", "4k": "full", "50mp": "full"}

FORMATS = ("auto", "png", "jpg", "zip", "webp")

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


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A request that makes sense as far as can be told without the photo."""

    image: bytes | None = field(default=None, repr=False)
    image_url: str | None = None
    """One of the two is set."""
    size: str = "preview"
    type_level: str = "1"
    format: str = "auto"
    roi: tuple[Length, Length, Length, Length] | None = None
    """Corners x1, y1, x2, y2 of where people may be."""
    people: str = "subjects"
    """all, or main."""
    keep: tuple[Mark, ...] = ()
    remove: tuple[Mark, ...] = ()
    """Marks on what belongs to the cut-out, and on what does not."""
    crop: bool = False
    crop_margin: str = "0"
    scale: float | None = None
    """0.1..1 of the frame; None: as in the photo."""
    position: str | tuple[float, float] = "original"
    channels: str = "rgba"
    shadow: float = 0.0
    """Strength 0..1."""
    bg_color: tuple[int, int, int, int] | None = None
    bg_image: bytes | None = field(default=None, repr=False)
    bg_image_url: str | None = None

    def options(self, size_hw: tuple[int, int], background: bytes | None = None) -> Options:
        """What is asked of a photo of that size.

        Args:
            size_hw: height and width of the upright photo, pixels.
            background: the picture behind ``bg_image_url``.

        Raises:
            Refusal: ``roi`` does not fit the photo.
            OptionError: a value that only the photo's size rules out.
        """
        behind = self.bg_image or background or self.bg_color
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
            position=self.position,
            shadow=self.shadow,
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


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError("use true or false")


def _one_of(*known: str, aliases: Mapping[str, str] | None = None) -> Callable[[str], str]:
    def read(text: str) -> str:
        value = (aliases or {}).get(text.lower(), text.lower())
        if value not in known:
            raise ValueError(f"use one of {', '.join(known)}")
        return value

    return read


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


def _opacity(text: str) -> float:
    if not re.fullmatch(r"\d{1,3}", text) or int(text) > 100:
        raise ValueError("use a whole number from 0 to 100")
    return int(text) / 100


def _marks(text: str) -> tuple[Mark, ...]:
    try:
        return strokes.checked("marks", json.loads(text))
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    except OptionError as error:
        raise ValueError(str(error)) from None


def _text(text: str) -> str:
    return text


@dataclass(frozen=True)
class Parameter:
    """One parameter: what it is, and how its text is read. ``read`` raises ``ValueError`` with the mend."""

    name: str
    about: str
    read: Callable[[str], Any] = _text
    schema: Mapping[str, Any] = field(default_factory=dict)
    """Of JSON Schema, beside ``type: string``."""


_BOOLEAN = {"type": "boolean", "default": False}
_MARKS = {"contentMediaType": "application/json", "default": "[]"}
_LENGTH_WORD = r"[0-9]{1,6}(\.[0-9]{1,6})?(px|%)?"

PARAMETERS = (
    Parameter("image_file", "Source image as an upload (multipart only).", schema={"format": "binary"}),
    Parameter("image_file_b64", "Source image as base64, with or without a data: prefix.", _base64),
    Parameter("image_url", "Source image as a URL, where the server allows it.", _url, {"maxLength": 4096}),
    Parameter(
        "size",
        "Resolution of the result: preview (0.25 megapixels; aliases small, regular), medium (1.5), hd (4), "
        "full (the photo's own; alias 4k), auto (as full).",
        _one_of(*MAX_PIXELS, aliases=_SIZE_ALIASES),
        {"enum": [*MAX_PIXELS, *_SIZE_ALIASES], "default": "preview"},
    ),
    Parameter(
        "type",
        "What to look for. This server cuts people.",
        _one_of("auto", "person"),
        {"enum": ["auto", "person"], "default": "auto"},
    ),
    Parameter(
        "type_level",
        "Detail of X-Type: none leaves it out.",
        _one_of("none", "1", "2", "latest"),
        {"enum": ["none", "1", "2", "latest"], "default": "1"},
    ),
    Parameter(
        "format",
        "auto (JPEG on an opaque background, else PNG), png, jpg (on white where no background covers it), "
        "zip (color.jpg and alpha.png), webp.",
        _one_of(*FORMATS),
        {"enum": list(FORMATS), "default": "auto"},
    ),
    Parameter(
        "roi",
        'Where people may be, "x1 y1 x2 y2" in px or %; everything outside is background.',
        _roi,
        {"pattern": rf"^{_LENGTH_WORD}( {_LENGTH_WORD}){{3}}$", "default": "0% 0% 100% 100%"},
    ),
    Parameter(
        "people",
        "Whom to keep: subjects (without passers-by), all, or main for the main person alone. (Not remove.bg's.)",
        _one_of("subjects", "all", "main"),
        {"enum": ["subjects", "all", "main"], "default": "subjects"},
    ),
    Parameter(
        "keep",
        "What belongs to the cut-out: JSON of a list of marks, in pixels of the upright photo: [x, y], "
        '[left, top, right, bottom] or {"points": [[x, y], ...], "radius": 9}. The part that a mark touches is '
        "decided again. (Not remove.bg's.)",
        _marks,
        _MARKS,
    ),
    Parameter("remove", "What does not belong to it; as keep. (Not remove.bg's.)", _marks, _MARKS),
    Parameter("crop", "Crop off empty regions.", _boolean, _BOOLEAN),
    Parameter(
        "crop_margin",
        "Room around a crop: 1, 2 or 4 lengths in px or %, at most 50% of the subject or 500px.",
        _crop_margin,
        {"pattern": rf"^{_LENGTH_WORD}( {_LENGTH_WORD}(( {_LENGTH_WORD}){{2}})?)?$", "default": "0"},
    ),
    Parameter(
        "scale",
        'Subject relative to the frame, "10%" to "100%", or original. Implies position=center.',
        _scale,
        {"pattern": r"^(original|100%|[1-9][0-9]%)$", "default": "original"},
    ),
    Parameter(
        "position",
        'Where the subject goes: original, center, "0%" to "100%", or two of them (horizontal, vertical).',
        _position,
        {"pattern": r"^(original|center|(100|[1-9]?[0-9])%( (100|[1-9]?[0-9])%)?)$"},
    ),
    Parameter(
        "channels",
        "rgba, or alpha for the matte alone.",
        _one_of("rgba", "alpha"),
        {"enum": ["rgba", "alpha"], "default": "rgba"},
    ),
    Parameter("add_shadow", "A soft shadow under the people.", _boolean, _BOOLEAN),
    Parameter(
        "shadow_opacity",
        "Strength of that shadow, 0 to 100.",
        _opacity,
        {"type": "integer", "minimum": 0, "maximum": 100, "default": 60},
    ),
    Parameter(
        "semitransparency",
        "Accepted for compatibility: edges are always semi-transparent.",
        _boolean,
        _BOOLEAN,
    ),
    Parameter("bg_color", "Background colour: 3, 4, 6 or 8 hex digits, or a name.", _colour),
    Parameter(
        "bg_image_url", "Background image as a URL, where the server allows it.", _url, {"maxLength": 4096}
    ),
    Parameter(
        "bg_image_file",
        "Background image as an upload (multipart only): centred, fills the frame, keeps its aspect ratio.",
        schema={"format": "binary"},
    ),
)

_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


def read(fields: Fields) -> Wanted:
    """The request that ``fields`` describe. Unknown fields are ignored, as remove.bg does.

    Raises:
        Refusal: 400 with remove.bg's code for what is wrong.
    """
    given = {name: value for name, value in fields.items() if name in _BY_NAME and value not in ("", b"")}
    _check_sources(given)
    values = {name: _value(name, value) for name, value in given.items()}
    behind = [name for name in ("bg_color", "bg_image_url", "bg_image_file") if values.get(name) is not None]
    if len(behind) > 1:
        raise Refusal(
            400,
            "multiple_bg_sources",
            "Multiple background sources given",
            f"Please give one of {', '.join(behind)}",
        )
    scale = values.get("scale")
    wanted = Wanted(
        image=values.get("image_file", values.get("image_file_b64")),
        image_url=values.get("image_url"),
        size=values.get("size", "preview"),
        type_level=values.get("type_level", "1"),
        format=values.get("format", "auto"),
        roi=values.get("roi"),
        people=values.get("people", "subjects"),
        keep=values.get("keep", ()),
        remove=values.get("remove", ()),
        crop=values.get("crop", False),
        crop_margin=values.get("crop_margin", "0"),
        scale=scale,
        position=values.get("position", "original" if scale is None else "center"),
        channels=values.get("channels", "rgba"),
        shadow=values.get("shadow_opacity", 0.6) if values.get("add_shadow") else 0.0,
        bg_color=values.get("bg_color"),
        bg_image=values.get("bg_image_file"),
        bg_image_url=values.get("bg_image_url"),
    )
    if wanted.format == "zip" and behind:
        raise _invalid("format", "zip holds colour and alpha apart; leave the background out")
    return wanted


def _check_sources(given: Fields) -> None:
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


def _value(name: str, value: str | bytes) -> Any:
    if (name in FILES) != isinstance(value, bytes):
        raise _invalid(
            name, "send it as an upload, multipart/form-data" if name in FILES else "send it as text"
        )
    if isinstance(value, bytes):
        return value
    try:
        return _BY_NAME[name].read(value.strip())
    except ValueError as error:
        raise _invalid(name, str(error)) from None


def _invalid(name: str, mend: str) -> Refusal:
    return Refusal(400, f"invalid_{name}", f"Invalid {name} parameter given", f"{name}: {mend}")
