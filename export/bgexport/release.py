"""From a checkpoint to the committed network: ONNX file, configs and the model card's facts, checked on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from bgexport import __version__, graph, repository
from bgexport.card import update_card
from bgexport.checks import Check, require
from bgexport.engines import CPU_ENGINES, cpu_engine, torch_engine
from bgexport.limits import TOLERANCES
from bgexport.photos import Picture, adversarial
from bgexport.verify import verify
from bgtrain.checkpoint import Checkpoint

LICENCE = "Apache-2.0; trained on photos under mixed terms, see the model card"
"""Of the weights; stored in every file made from them."""


def onnx_bytes(checkpoint: Checkpoint, *, dynamic_size: bool = False) -> bytes:
    """The checkpoint's network as an ONNX file in FP32, checked and stamped; the same checkpoint gives the same bytes."""
    model = graph.export_graph(checkpoint.model(), checkpoint.contract, dynamic_size=dynamic_size)
    model.producer_name, model.producer_version = "bgexport", __version__
    graph.stamped(
        model,
        checkpoint.contract,
        network=checkpoint.network,
        precision="fp32",
        licence=LICENCE,
        weights_sha256=weights_sha256(checkpoint),
    )
    graph.check_graph(model, checkpoint.contract)
    return bytes(model.SerializeToString(deterministic=True))


def weights_sha256(checkpoint: Checkpoint) -> str:
    """SHA-256 over names and values of the weights: the same network in another file has the same."""
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint.weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def parity_with_torch(checkpoint: Checkpoint, model: Path, photos: Sequence[Picture]) -> list[Check]:
    """Both CPU engines against PyTorch, on ``photos`` and on adversarial pictures."""
    made = adversarial(checkpoint.contract, photos[:2])
    precision = graph.metadata(onnx.load(model))["precision"]
    engines = {
        f"{name} {precision}": (cpu_engine(name, model), TOLERANCES[precision]) for name in CPU_ENGINES
    }
    return verify(engines, torch_engine(checkpoint.model(), checkpoint.contract), photos, made)


@dataclass(frozen=True)
class Release:
    """What a release wrote."""

    model: Path
    configs: list[Path]
    card: Path
    checks: list[Check]


def release(
    checkpoint: Checkpoint,
    photos: Sequence[Picture],
    *,
    models: Path,
    card: Path,
    serving: repository.Serving,
) -> Release:
    """Make ``checkpoint`` the repository's network. Nothing changes where a check fails.

    ``models`` is the model repository, ``card`` the model card, whose facts are replaced and whose prose is kept.
    """
    path = models / repository.ONNX_NETWORK / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    try:
        new.write_bytes(onnx_bytes(checkpoint))
        checks = parity_with_torch(checkpoint, new, photos)
        require(checks)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    configs = repository.write(models, checkpoint.contract, serving)
    update_card(card, checkpoint, onnx.load(path), path)
    return Release(path, configs, card, checks)
