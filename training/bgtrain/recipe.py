"""A recipe is one TOML file: everything that decides what a training run does."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bgimage.contract import Contract
from bgimage.errors import BgError
from bgtrain.augment import AugmentConfig
from bgtrain.data import DataConfig
from bgtrain.losses import LossConfig
from bgtrain.modnet import SCALE
from bgtrain.networks import NAMES
from bgtrain.tiramisu import TIRAMISU


class RecipeError(BgError, ValueError):
    """The recipe cannot be followed; the message names file and field and says what to do."""

    code = "bad_recipe"


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights move."""

    name: str = "adamw"
    """adamw or rmsprop (the paper's)."""
    lr: float = 2e-3
    """Learning rate after the warm-up."""
    encoder_lr: float = 1.0
    """Learning rate of a pretrained way down, as a fraction of ``lr``; 0 keeps its weights as they are."""
    weight_decay: float = 0.02
    """Decoupled for adamw, L2 for rmsprop; not applied to biases and normalisation."""
    schedule: str = "cosine"
    """cosine (to 0), hold (constant, then linear to 0 over ``decay_fraction``), exponential (``decay`` an epoch)."""
    warmup_steps: int = 300
    decay_fraction: float = 0.3
    decay: float = 0.995
    epoch_images: int = 500
    """Images that count as an epoch in the exponential schedule."""
    clip_norm: float = 5.0
    ema: float = 0.998
    """Decay of the averaged weights a step; 0 keeps the raw ones."""

    def __post_init__(self) -> None:
        for name, known in {
            "name": ("adamw", "rmsprop"),
            "schedule": ("cosine", "hold", "exponential"),
        }.items():
            if getattr(self, name) not in known:
                raise RecipeError(f"optimizer.{name}={getattr(self, name)!r}: unknown; use one of {known}")
        if not 0 <= self.ema < 1:
            raise RecipeError(f"optimizer.ema={self.ema}: a decay in [0, 1) is needed")


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one crop size."""

    size: int
    """Side of the square crops, pixels."""
    steps: int
    batch: int
    """Images a step, over all processes and accumulated parts."""
    accumulate: int = 1
    """Parts of a batch that go through the network one after another."""

    def __post_init__(self) -> None:
        if self.batch % self.accumulate:
            raise RecipeError(f"phases.batch={self.batch} is not a multiple of accumulate={self.accumulate}")


@dataclass(frozen=True)
class Recipe:
    """The whole run."""

    network: str
    phases: tuple[Phase, ...]
    seed: int = 0
    contract: Contract = field(default_factory=Contract)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    validate_every: int = 1000
    """Steps between validations and checkpoints of the best."""
    save_every: int = 250
    """Steps between checkpoints to resume from."""
    patience: int = 0
    """Validations without a better score before the run stops; 0 never stops."""
    modnet: bool = False
    """Begin with MODNet's way down (``tiramisu`` alone can)."""
    frozen_stages: int = 0
    """Stages of the way down, finest first, that keep the weights they begin with (``tiramisu`` alone has stages)."""
    segment_steps: int = 0
    """After each step of the whole network, steps that train it without its matte head, at two thirds of the cost
    (``tiramisu`` alone has a segmentation head)."""
    freeze_batchnorm: bool = False
    """Use and keep the running statistics (fine-tuning at full size with small batches)."""
    precision: str = "auto"
    """fp32, bf16, or auto: bf16 where the processor or GPU computes in it."""

    def __post_init__(self) -> None:
        if self.network not in NAMES:
            raise RecipeError(f"network={self.network!r}: unknown; use one of {', '.join(NAMES)}")
        if self.modnet and self.network != TIRAMISU:
            raise RecipeError(
                f"modnet=true: {self.network!r} has another way down; only {TIRAMISU!r} has MODNet's"
            )
        if self.modnet and {*self.contract.mean, *self.contract.std} != set(SCALE):
            raise RecipeError(f"modnet=true: contract.mean and .std must be {SCALE[0]} for every channel")
        for key in ("frozen_stages", "segment_steps"):
            if getattr(self, key) and self.network != TIRAMISU:
                raise RecipeError(f"{key}: {self.network!r} does not know it; only {TIRAMISU!r} does")
        if not self.phases:
            raise RecipeError("phases is empty: add at least one [[phases]] with size, steps and batch")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise RecipeError(f"precision={self.precision!r}: unknown; use auto, fp32 or bf16")

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the TOML would hold them."""
        return dataclasses.asdict(self)


def _make(kind: type, values: dict[str, Any], where: str) -> Any:
    known = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := set(values) - set(known):
        raise RecipeError(f"{where}: unknown {sorted(unknown)}; known are {sorted(known)}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def from_dict(values: dict[str, Any], where: str = "recipe") -> Recipe:
    """The recipe of plain values. ``RecipeError`` names an unknown or impossible field."""
    values = dict(values)
    parts = {
        "contract": Contract,
        "data": DataConfig,
        "augment": AugmentConfig,
        "loss": LossConfig,
        "optimizer": OptimizerConfig,
    }
    try:
        for name, kind in parts.items():
            if name in values:
                values[name] = _make(kind, values[name], f"{where}: [{name}]")
        phases = [_make(Phase, phase, f"{where}: [[phases]]") for phase in values.get("phases", ())]
        return _make(Recipe, {**values, "phases": phases}, where)
    except RecipeError:
        raise
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where}: {error}") from error


def read(path: Path, known: set[str]) -> dict[str, Any]:
    """The tables of a TOML file. ``RecipeError`` where there is none, it is broken, or it has others than ``known``."""
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise RecipeError(f"no recipe {path}") from error
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: {error}") from error
    if unknown := set(values) - known:
        raise RecipeError(f"{path}: unknown {sorted(unknown)}; known are {sorted(known)}")
    return values


def merged(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """``common`` with what ``own`` says otherwise, table by table."""
    tables = {
        name: merged(value, own[name])
        for name, value in common.items()
        if isinstance(value, dict) and isinstance(own.get(name), dict)
    }
    return {**common, **own, **tables}


def load(path: Path) -> Recipe:
    """Read a TOML recipe."""
    return from_dict(read(path, {field.name for field in dataclasses.fields(Recipe)}), str(path))
