"""What is asked of a cut-out, as plain values that cross the wire as JSON."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any

from PIL import ImageColor

from bgimage import strokes
from bgimage.encode import ENCODERS
from bgimage.errors import OptionError

Colour = tuple[int, int, int, int]

_CHOICES: dict[str, tuple[Any, ...]] = {
    "output": ("cutout", "matte", "inverse"),
    "edges": ("none", "fast"),
    "colors": ("keep", "srgb"),
    "format": (None, *ENCODERS),
}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(px|%)?")
_BLUR = re.compile(r"blur(?::(\d+(?:\.\d+)?))?")


MAX_VALUES = 20_000
"""Of options in JSON; all the points that ``keep`` and ``remove`` may have are fewer."""
_SHOWN = 100  # characters of a wrong value; Triton and HTTP refuse answers whose message is long


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to finish a cut-out. Every field is checked; ``OptionError`` names the field, its value and what to use."""

    output: str = "cutout"
    """"cutout" (the people), "matte" (their alpha as a grey picture) or "inverse" (everything but them)."""
    people: str | tuple[int, ...] = "subjects"
    """"subjects" (without passers-by), "all", "main" (the largest, most central part), the part at a point (x, y), or
    what lies in a box (left, top, right, bottom); pixels of the upright photo."""
    region: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom, pixels of the upright photo: everything outside is background, even half a person."""
    keep: tuple[strokes.Mark, ...] = ()
    """Marks on what belongs to the cut-out: points (x, y), boxes (left, top, right, bottom), ``strokes.Stroke`` or
    {"points": [...], "radius": ...}; pixels of the upright photo, at most ``strokes.MOST`` numbers. The part that a
    mark touches is decided again."""
    remove: tuple[strokes.Mark, ...] = ()
    """Marks on what does not belong to it."""
    edges: str = "fast"
    """"none" (bilinear) or "fast" (guided by the photo)."""
    decontaminate: bool = True
    """Take the old background's tint out of half-transparent pixels."""
    clean: bool = True
    """Remove specks and fill pinholes of the matte."""
    background: str | tuple[int, ...] | bytes | None = None
    """None (transparent), a colour ("#rgb", "#rrggbb", "#rrggbbaa", a CSS name, "rgb(...)", or 3 or 4 numbers 0..255),
    "blur" or "blur:RADIUS" in pixels (of the photo itself), or an image's bytes, which then fills the frame."""
    format: str | None = None
    """One of ``ENCODERS``; None: PNG while something is transparent or for a matte, else the photo's own format."""
    quality: int | None = None
    """1..100 for JPEG, WebP, AVIF; None: a good default each."""
    colors: str = "keep"
    """"keep" (the photo's own colour space and profile) or "srgb" (convert)."""
    max_pixels: int | None = None
    """The result has at most this many pixels; None: the photo's own."""
    crop: bool = False
    """Crop to the people and ``margin``."""
    margin: str = "0"
    """Room around a crop: 1, 2 or 4 lengths as in CSS (top right bottom left), "12px" or "5%" of the people's box."""
    canvas: tuple[int, int] | None = None
    """Width and height of the result in pixels."""
    scale: float | None = None
    """0.1..1: the people fill this share of the frame; None: as they are (shrunk where the canvas is too small)."""
    position: str | tuple[float, float] = "original"
    """"original", "center", or where the people's box goes, (x, y) in 0..1: 0 is left or top, 1 is right or bottom."""
    shadow: float = 0.0
    """Strength of a soft shadow under the people, 0 (none) to 1."""
    require_person: bool = False
    """Raise ``NoPersonFound`` when no person is found."""
    at_least: float = 0.0
    """0..1: where the expected IoU is below it, a client looks again, closer (``bgimage.closer``). ``Doubtful`` is
    raised where that does not help, or no person is found."""
    keep_metadata: bool = True
    """Keep EXIF and resolution. (The colour profile belongs to the colours and always stays.)"""
    drop_gps: bool = False
    """Drop the place from EXIF."""

    def __post_init__(self) -> None:
        for field, known in _CHOICES.items():
            if getattr(self, field) not in known:
                raise OptionError(
                    f"{field}={_shown(getattr(self, field))}: use one of {', '.join(map(str, known))}"
                )
        for field in ("decontaminate", "clean", "crop", "require_person", "keep_metadata", "drop_gps"):
            if not isinstance(getattr(self, field), bool):
                raise OptionError(f"{field}={_shown(getattr(self, field))}: use true or false")
        self._set("people", self._checked_people())
        for field in ("keep", "remove"):
            self._set(field, strokes.checked(field, getattr(self, field)))
        if self.region is not None:
            self._set("region", self._integers("region", self.region, (4,)))
            left, top, right, bottom = self.region
            if not (0 <= left < right and 0 <= top < bottom):
                raise OptionError(f"region={self.region}: an empty box; use left < right and top < bottom")
        self._set("background", self._checked_background())
        self._set("position", self._checked_position())
        self._set("margin", str(self.margin))
        self.margins((100, 100))
        if self.canvas is not None:
            self._set("canvas", self._integers("canvas", self.canvas, (2,)))
            if self.canvas[0] * self.canvas[1] > 64_000_000:
                raise OptionError(f"canvas={self.canvas}: more than 64 megapixels; use a smaller one")
            if not 1 <= min(self.canvas) <= max(self.canvas) <= 32_767:
                raise OptionError(f"canvas={self.canvas}: each side 1..32767 pixels")
        for field, low, high in (("quality", 1, 100), ("max_pixels", 1, 1 << 31), ("scale", 0.1, 1)):
            self._in_range(field, low, high, optional=True)
        for field in ("shadow", "at_least"):
            self._in_range(field, 0, 1, optional=False)

    def _set(self, field: str, value: Any) -> None:
        object.__setattr__(self, field, value)

    def _in_range(self, field: str, low: float, high: float, *, optional: bool) -> None:
        value = getattr(self, field)
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise OptionError(f"{field}={_shown(value)}: use a number from {low:g} to {high:g}")

    @staticmethod
    def _integers(field: str, value: Any, lengths: tuple[int, ...]) -> tuple[int, ...]:
        try:
            numbers = tuple(value)
        except TypeError:
            numbers = ()
        if len(numbers) not in lengths or not all(
            type(n) is int or (type(n) is float and n.is_integer()) for n in numbers
        ):
            raise OptionError(f"{field}={_shown(value)}: use {' or '.join(map(str, lengths))} whole numbers")
        return tuple(int(n) for n in numbers)

    def _checked_people(self) -> str | tuple[int, ...]:
        if isinstance(self.people, str):
            if self.people not in ("subjects", "all", "main"):
                raise OptionError(
                    f"people={_shown(self.people)}: use subjects, all, main, a point (x, y) or a box "
                    "(left, top, right, bottom)"
                )
            return self.people
        numbers = self._integers("people", self.people, (2, 4))
        if len(numbers) == 4 and not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
            raise OptionError(f"people={numbers}: an empty box; use left < right and top < bottom")
        return numbers

    def _checked_background(self) -> str | Colour | bytes | None:
        value = self.background
        if value is None or isinstance(value, bytes):
            return value
        if isinstance(value, str):
            blur = _BLUR.fullmatch(value)
            if blur:
                if blur[1] is not None and not 0 < float(blur[1]) <= 500:
                    raise OptionError(f"background={_shown(value)}: a radius above 0 and up to 500 pixels")
                return value
            try:
                red, green, blue, *opacity = ImageColor.getrgb(value)
            except ValueError as error:
                raise OptionError(
                    f'background={_shown(value)}: use a colour such as "#ff8800" or "white", or "blur"'
                ) from error
            return red, green, blue, *(opacity or [255])[:1]  # type: ignore[return-value]
        numbers = self._integers("background", value, (3, 4))
        if not all(0 <= n <= 255 for n in numbers):
            raise OptionError(f"background={_shown(value)}: each number 0..255")
        return (*numbers, 255)[:4]  # type: ignore[return-value]

    def _checked_position(self) -> str | tuple[float, float]:
        value = self.position
        if isinstance(value, str) and value in ("original", "center"):
            return value
        numbers = value if isinstance(value, tuple | list) else ()
        if len(numbers) != 2 or not all(isinstance(n, int | float) and 0 <= n <= 1 for n in numbers):
            raise OptionError(f'position={_shown(value)}: use "original", "center" or (x, y) in 0..1')
        return float(numbers[0]), float(numbers[1])

    def margins(self, box_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        """Pixels at top, right, bottom, left of people's box of that size; at most half of it or 500 each."""
        words = self.margin.split()
        if len(words) not in (1, 2, 4) or not all(_LENGTH.fullmatch(word) for word in words):
            raise OptionError(f'margin={_shown(self.margin)}: use 1, 2 or 4 lengths such as "20px" or "5%"')
        sides = [words[i % len(words)] for i in range(4)]
        pixels = []
        for side, extent in zip(sides, (box_hw[0], box_hw[1], box_hw[0], box_hw[1]), strict=True):
            number, unit = _LENGTH.fullmatch(side).groups()  # type: ignore[union-attr]
            if unit == "%" and float(number) > 50:
                raise OptionError(f"margin={_shown(self.margin)}: at most 50%")
            if unit != "%" and float(number) > 500:
                raise OptionError(f"margin={_shown(self.margin)}: at most 500px")
            pixels.append(round(float(number) * extent / 100 if unit == "%" else float(number)))
        return pixels[0], pixels[1], pixels[2], pixels[3]

    @property
    def blur_radius(self) -> float | None:
        """Radius of a blurred background in pixels, 0.0 for "as fits the photo", None where it is not blurred."""
        blur = _BLUR.fullmatch(self.background) if isinstance(self.background, str) else None
        return float(blur[1] or 0) if blur else None

    def to_json(self) -> str:
        """Canonical JSON of the fields that differ from their defaults; image bytes as base64."""
        values = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                values[field.name] = (
                    {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
                )
        return json.dumps(values, sort_keys=True, separators=(",", ":"), default=strokes.plain)

    @classmethod
    def from_json(cls, text: str | bytes) -> Options:
        """Read what ``to_json`` wrote, or any JSON object of fields. ``OptionError`` names what is wrong."""
        marks: Any = (b",", b"[", b"{") if isinstance(text, bytes) else ",[{"
        if sum(map(text.count, marks)) > MAX_VALUES:  # an object of each would need memory and time
            raise OptionError(f"options are JSON of more than {MAX_VALUES} values; send fewer points")
        try:
            values = json.loads(text or "{}")
        except (ValueError, RecursionError) as error:
            raise OptionError(f"options are not JSON: {error}") from error
        if not isinstance(values, dict):
            raise OptionError(f"options are a JSON {type(values).__name__}; send an object of fields")
        return cls.of(**values)

    @classmethod
    def of(cls, /, **values: Any) -> Options:
        """``Options(**values)`` whose unknown names are an ``OptionError`` that lists the known ones."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise OptionError(
                f"unknown option {_shown(', '.join(unknown))[1:-1]}; there are {', '.join(known)}"
            )
        for name, value in values.items():
            if isinstance(value, dict) and set(value) == {"base64"}:
                try:
                    values[name] = base64.b64decode(value["base64"], validate=True)
                except (ValueError, TypeError) as error:
                    raise OptionError(f"{name}: not base64") from error
            elif isinstance(value, list):
                values[name] = tuple(value)
        return cls(**values)
