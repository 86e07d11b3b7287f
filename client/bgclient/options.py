"""The options of a cut-out as keyword arguments, for type checkers and editors.

``bgimage.options.Options`` is what checks and documents them; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

Side = Literal["client", "server"]
"""What finishes a cut-out."""
Where = Literal[Side, "auto"]
"""The same, or the one with fewer bytes between them."""


class CutOptions(TypedDict, total=False):
    """Keyword arguments of ``cut``; see ``bgimage.options.Options`` for what each does and its default."""

    output: Literal["cutout", "matte", "inverse"]
    people: str | tuple[int, ...]
    region: tuple[int, int, int, int] | None
    keep: Sequence[object]
    remove: Sequence[object]
    edges: Literal["none", "fast"]
    decontaminate: bool
    clean: bool
    background: str | tuple[int, ...] | bytes | None
    format: Literal["png", "webp", "avif", "jpeg", "tiff"] | None
    quality: int | None
    colors: Literal["keep", "srgb"]
    max_pixels: int | None
    crop: bool
    margin: str
    canvas: tuple[int, int] | None
    scale: float | None
    position: str | tuple[float, float]
    shadow: float
    require_person: bool
    at_least: float
    keep_metadata: bool
    drop_gps: bool
