"""The one description of the network's input and output, shared by training, export, server and client."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

MAX_SIDE = 4096
"""Pixels: a network's input is a photo made small."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What the network eats and gives.

    The checkpoint stores it, the ONNX file and every ``config.pbtxt`` carry it, pre- and post-processing
    read it from there and own no numbers. The graph itself contains the normalisation and the sigmoid, so
    that a caller sees ``image``: uint8 (N, 3, H, W), RGB, 0..255, and ``alpha``: float32 (N, 1, H, W) in [0,
    1].
    """

    size_hw: tuple[int, int] = (320, 320)
    """Height and width of the network's input, pixels."""
    stride: int = 32
    """Both sides of ``size_hw`` are multiples of it: the network's total down-sampling."""
    channel_order: str = "RGB"
    """Order of the three colour channels."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from the colours in [0, 1], inside the graph."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Divides the centred colours, inside the graph."""
    fit: str = "letterbox"
    """"letterbox": the photo keeps its aspect ratio, is scaled to fill one side, centred, and padded with
    ``pad_value``. "stretch": it fills both sides."""
    pad_value: int = 127
    """Grey level (0..255) of the padding; close to ``mean``, so that it is near zero after normalisation."""
    resampling: str = "area"
    """Filter that shrinks the photo (enlarging is bilinear)."""
    input_tensor: str = "image"
    """Name of the input tensor in ONNX and Triton."""
    output_tensor: str = "alpha"
    """Name of the output tensor in ONNX and Triton."""
    version: int = 1
    """Raised when the meaning of a field changes."""

    def __post_init__(self) -> None:
        """Refuse a contract that no network could keep: it may come from a server that is not ours."""
        self._check_numbers("size_hw", self.size_hw, 2, (int,))
        self._check_numbers("stride", (self.stride,), 1, (int,))
        self._check_numbers("pad_value", (self.pad_value,), 1, (int,))
        self._check_numbers("mean", self.mean, 3, (int, float))
        self._check_numbers("std", self.std, 3, (int, float))
        if not 1 <= self.stride <= MAX_SIDE or max(self.size_hw) > MAX_SIDE:
            raise ValueError(
                f"Contract.size_hw={self.size_hw}, stride={self.stride}: use 1 to {MAX_SIDE} pixels"
            )
        for name in (self.input_tensor, self.output_tensor):
            if not isinstance(name, str) or not 0 < len(name) <= MAX_SIDE:
                raise ValueError("Contract.input_tensor, output_tensor: use the names of the graph's tensors")
        for side in self.size_hw:
            if side < self.stride or side % self.stride:
                raise ValueError(
                    f"Contract.size_hw={self.size_hw}: {side} is not a positive multiple of stride={self.stride}; "
                    f"use {max(1, round(side / self.stride)) * self.stride}"
                )
        choices = {
            "channel_order": ("RGB",),
            "fit": ("letterbox", "stretch"),
            "resampling": ("area",),
            "version": (1,),
        }
        for field, known in choices.items():
            if not any(getattr(self, field) == one for one in known):
                raise ValueError(f"Contract.{field}={getattr(self, field)!r}: unknown; use one of {known}")
        if not 0 <= self.pad_value <= 255:
            raise ValueError(f"Contract.pad_value={self.pad_value}: not a grey level; use 0..255")
        if min(self.std) <= 0:
            raise ValueError(f"Contract.std={self.std}: each must be above 0")

    @staticmethod
    def _check_numbers(field: str, values: Any, count: int, kinds: tuple[type, ...]) -> None:
        fits = isinstance(values, tuple) and len(values) == count
        if not fits or not all(type(v) in kinds and math.isfinite(v) and abs(v) < 1e6 for v in values):
            what = "whole numbers" if kinds == (int,) else "numbers"
            raise ValueError(f"Contract.{field}={str(values)[:80]}: use {count} {what}")

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces; equal contracts give equal text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Contract:
        """Read what ``to_json`` wrote. ``ValueError`` names an unknown or malformed field."""
        try:
            fields = json.loads(text)
        except RecursionError:
            fields = None
        if not isinstance(fields, dict):
            raise ValueError("the contract is not a JSON object")
        unknown = set(fields) - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(
                f"contract has unknown fields {sorted(unknown)[:5]}; this bgimage is too old for the network"
            )
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of ``to_json()``; equal in checkpoint, ONNX, plan and configs."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]
