"""A checkpoint is the contract, the recipe, the scores and the weights; and what resuming needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bgimage.contract import Contract
from bgimage.errors import BgError
from bgtrain import networks


class CheckpointError(BgError):
    """The file is missing, damaged, or of another format; the message names it."""

    code = "bad_checkpoint"


@dataclass
class Checkpoint:
    """A trained network and how it came about."""

    network: str
    """Name for ``bgtrain.networks.build``."""
    contract: Contract
    recipe: dict[str, Any]
    metrics: dict[str, float]
    weights: dict[str, torch.Tensor]
    """``state_dict`` with the averaged (EMA) weights and running BatchNorm statistics."""
    resume: dict[str, Any] | None = field(default=None, repr=False)
    """Step, raw weights and optimizer state; ``None`` in a published checkpoint."""

    def model(self) -> nn.Module:
        """The network with its weights, in evaluation mode, float32 on the CPU."""
        model = networks.build(self.network)
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in self.weights.items()})
        return model.eval()

    def settled(self, model: nn.Module, metrics: dict[str, float]) -> Checkpoint:
        """The same with the weights of ``model``, scored anew, and nothing to resume from."""
        weights = {name: value.contiguous() for name, value in model.state_dict().items()}
        return replace(self, weights=weights, metrics=metrics, resume=None)

    def save(self, path: Path) -> None:
        """Write to ``path`` by way of a temporary file: a kill never leaves half a checkpoint."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save({**vars(self), "contract": self.contract.to_json(), "format": 1}, part)
        part.replace(path)

    def published(self) -> Checkpoint:
        """The same without what only resuming needs, weights in float16."""
        half = {k: v.half() if v.is_floating_point() else v for k, v in self.weights.items()}
        return Checkpoint(self.network, self.contract, self.recipe, self.metrics, half)


def load(path: Path | str) -> Checkpoint:
    """Read what ``save`` wrote. ``CheckpointError`` where that fails; nothing in the file is executed."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("format") != 1:
            raise KeyError("format")
        return Checkpoint(**{**content, "contract": Contract.from_json(content["contract"])})
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint {path}") from error
    except Exception as error:  # damaged zip, foreign pickle, other fields: all mean the same to the caller
        raise CheckpointError(f"{path} is not a bgtrain checkpoint: {error}") from error
