"""From a checkpoint to the committed networks, checked on the way.

Server and in-process engine load ``model.onnx`` in FP32, the web page the same network with weights in FP16.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from bgexport import __version__, graph, precision, repository
from bgexport.card import update_card
from bgexport.checks import Check, require
from bgexport.engines import CPU_ENGINES, cpu_engine, torch_engine
from bgexport.errors import TooLarge
from bgexport.limits import MAX_PAGE_BYTES, TOLERANCES
from bgexport.photos import NetworkInput, adversarial
from bgexport.verify import verify
from bgtrain.checkpoint import Checkpoint

LICENCE = "Apache-2.0; trained on photos under mixed terms, see the model card"
"""Of the weights; stored in every file made from them."""


def onnx_bytes(checkpoint: Checkpoint, *, dynamic_size: bool = False) -> bytes:
    """The network as an ONNX file in FP32, checked and stamped; the same checkpoint gives the same bytes."""
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


def page_bytes(checkpoint: Checkpoint) -> bytes:
    """What onnxruntime-web loads: the network with FP16 weights, of which it needs no kernels of its own."""
    full = onnx.load_from_string(onnx_bytes(checkpoint))
    return bytes(precision.fp16_weights(full).SerializeToString(deterministic=True))


def weights_sha256(checkpoint: Checkpoint) -> str:
    """SHA-256 over names and values of the weights: the same network in another file has the same."""
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint.weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def parity_with_torch(checkpoint: Checkpoint, model: Path, photos: Sequence[NetworkInput]) -> list[Check]:
    """Both CPU engines with ``model`` against PyTorch, on ``photos`` and on adversarial pictures."""
    kind = graph.metadata(onnx.load(model))["precision"]
    engines = {f"{name} {kind}": (cpu_engine(name, model), TOLERANCES[kind]) for name in CPU_ENGINES}
    made = adversarial(checkpoint.contract, photos[:2])
    return verify(engines, torch_engine(checkpoint.model(), checkpoint.contract), photos, made)


@dataclass(frozen=True)
class Release:
    """What a release wrote."""

    model: Path
    configs: list[Path]
    card: Path
    page: Path
    checks: list[Check]


def release(
    checkpoint: Checkpoint,
    photos: Sequence[NetworkInput],
    *,
    models: Path,
    card: Path,
    page: Path,
    serving: repository.Serving,
) -> Release:
    """Make ``checkpoint`` the network of repository and web page. Nothing changes where a check fails.

    ``photos`` are the pictures to compare on; ``models`` is the model repository, ``card`` the model card, whose facts
    are replaced and whose prose is kept, ``page`` the file that the web page loads.
    """
    path = models / repository.ONNX_NETWORK / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    new, small = (final.with_suffix(f".{os.getpid()}.new") for final in (path, page))
    try:
        new.write_bytes(onnx_bytes(checkpoint))
        small.write_bytes(page_bytes(checkpoint))
        checks = [
            *parity_with_torch(checkpoint, new, photos),
            *parity_with_torch(checkpoint, small, photos),
            Check("web page: bytes", small.stat().st_size, MAX_PAGE_BYTES, TooLarge),
        ]
        require(checks)
        new.replace(path)
        small.replace(page)
    finally:
        new.unlink(missing_ok=True)
        small.unlink(missing_ok=True)
    configs = repository.write(models, checkpoint.contract, serving)
    update_card(card, checkpoint, path, page)
    return Release(path, configs, card, page, checks)
