"""What a model hub wants of the served network: weights, graph, configuration and a card, in one folder.

Everything is read from what is committed: the graph that is served names its network and the hash of its weights, the
result of the evaluation is the one of that graph, and the prose is that of ``docs/model-card.md``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import onnx

from bgexport import __version__, graph
from bgexport.errors import ExportError, OutOfDate
from bgexport.release import weights_sha256
from bgimage.contract import Contract
from bgtrain import checkpoint as checkpoints
from bgtrain import tables
from bgtrain.checkpoint import Checkpoint
from bgtrain.make import MADE
from bgtrain.statistics import with_error
from bgtrain.tiramisu import parameter_count

SECTIONS = ("Data", "Known failures", "Licence")
"""Of ``docs/model-card.md``, that the hub's card has too."""
LICENCE_NAME = "apache-2.0-trained-on-mixed-terms"
MEASURES = {"iou": "IoU at 0.5", "boundary_iou": "boundary IoU", "mae": "mean absolute error"}
"""Of the committed result, that the card shows."""
CARD = Template(Path(__file__).with_name("hub_card.md").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Committed:
    """The served network, and what is known about it."""

    model: Path
    facts: dict[str, str]
    """The graph's metadata: network, precision, licence, weights_sha256."""
    checkpoint: Checkpoint
    result: dict[str, Any]
    """Of ``python -m bgtrain evaluate --split test``."""
    pools: list[str]
    """Of photos that any stage of the training drew from, sorted."""

    @classmethod
    def read(cls, model: Path, weights: Path, results: Path) -> Committed:
        """The graph ``model``, its checkpoint in ``weights``, its result and the record of its training in ``results``.

        Raises:
            OutOfDate: the checkpoint of that name holds other weights than the graph, no result is of that graph, or
                there is no record.
        """
        facts = graph.metadata(onnx.load(model))
        path = weights / f"{facts['network']}.pt"
        checkpoint = checkpoints.load(path)
        if weights_sha256(checkpoint) != facts["weights_sha256"]:
            raise OutOfDate(
                f"{path} does not hold the weights of {model}; run python -m bgexport release {path}"
            )
        result, record = _result(results, graph.sha256_of(model)), results / f"{facts['network']}-{MADE}"
        if not record.exists():
            raise OutOfDate(f"there is no {record}; python -m bgtrain make writes it")
        return cls(model, facts, checkpoint, result, _pools(json.loads(record.read_text(encoding="utf-8"))))

    @property
    def contract(self) -> Contract:
        """Input and output."""
        return self.checkpoint.contract


def _result(folder: Path, sha256: str) -> dict[str, Any]:
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if (
            found.get("sha256") == sha256
            and found.get("split") == "test"
            and {"pools", "slices"} <= found.keys()
        ):
            return dict(found)
    raise OutOfDate(
        f"no result in {folder} is of the graph {sha256[:12]}...; "
        "python -m bgtrain evaluate MODEL --split test --json FILE writes it"
    )


def _pools(made: dict[str, Any]) -> list[str]:
    """The pools of every stage of a ``*-made.json``, also those of backgrounds."""
    drawn: set[str] = set()
    for stage in made["stages"]:
        data = stage.get("recipe", {}).get("data", {})
        drawn.update(pool for pool, weight in data.get("pools", {}).items() if weight)
        drawn.update(data.get("backgrounds", ()))
    return sorted(drawn)


def write(folder: Path, committed: Committed, *, document: Path, licence: Path) -> list[Path]:
    """Write the hub's files to ``folder``, which may exist, and give their paths.

    document: ``docs/model-card.md``, whose ``SECTIONS`` become the card's. licence: the text that goes with the card.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": _json(config(committed)),
        "preprocessor_config.json": _json(preprocessor(committed.contract)),
        "README.md": card(committed, document.read_text(encoding="utf-8")),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    weights = {name: value.contiguous() for name, value in committed.checkpoint.weights.items()}
    facts = {name: committed.facts[name] for name in ("network", "weights_sha256", "contract")}
    save_file(weights, folder / "model.safetensors", {"format": "pt", **facts})
    shutil.copyfile(committed.model, folder / "model.onnx")
    shutil.copyfile(licence, folder / "LICENSE")
    return [folder / name for name in (*files, "model.safetensors", "model.onnx", "LICENSE")]


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2) + "\n"


def config(committed: Committed) -> dict[str, Any]:
    """``config.json``: the name for ``bgtrain.networks.build``, and the contract."""
    return {
        "model_type": committed.facts["network"],
        "parameters": parameter_count(committed.checkpoint.model()),
        "weights_sha256": committed.facts["weights_sha256"],
        "bgclient_version": __version__,
        "contract": json.loads(committed.contract.to_json()),
    }


def preprocessor(contract: Contract) -> dict[str, Any]:
    """``preprocessor_config.json``, in the field names of the transformers library.

    The graph of ``model.onnx`` scales and normalizes by itself; for ``model.safetensors`` it must be done.
    """
    height, width = contract.size_hw
    return {
        "size": {"height": height, "width": width},
        "do_resize": True,
        "do_pad": contract.fit == "letterbox",
        "pad_value": contract.pad_value,
        "resample": contract.resampling,
        "do_convert_rgb": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(contract.mean),
        "image_std": list(contract.std),
    }


def card(committed: Committed, document: str) -> str:
    """``README.md``: the YAML head, how to run the files, scores, and the ``SECTIONS`` of ``document``."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the library is imported
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import EvalResult, ModelCardData

    contract, result = committed.contract, committed.result
    name = f"bgclient {committed.facts['network']}"
    head = ModelCardData(
        license="other",
        license_name=LICENCE_NAME,
        license_link="LICENSE",
        pipeline_tag="image-segmentation",
        library_name="bgclient",
        tags=["image-matting", "background-removal", "portrait-matting", "onnx", "safetensors"],
        datasets=committed.pools,
        metrics=["mean_iou"],
        model_name=name,
        eval_results=[
            EvalResult(
                "image-segmentation",
                dataset_type=pool,
                dataset_name=f"{pool}, {found['photos']} photos",
                dataset_split=result["split"],
                metric_type="mean_iou",
                metric_name=MEASURES["iou"],
                metric_value=found["iou"]["mean"],
            )
            for pool, found in result["pools"].items()
            if "iou" in found
        ],
    )
    height, width = contract.size_hw
    text = CARD.substitute(
        name=name,
        network=committed.facts["network"],
        licence=committed.facts["licence"],
        parameters=f"{parameter_count(committed.checkpoint.model()):,}",
        height=height,
        width=width,
        pad=contract.pad_value,
        image=contract.input_tensor,
        alpha=contract.output_tensor,
        scores=_scores(result),
        sections="\n\n".join(f"## {one}\n\n{_section(document, one)}" for one in SECTIONS),
    )
    return f"---\n{head.to_yaml()}\n---\n\n{text}"


def _scores(result: dict[str, Any]) -> str:
    rows = [
        [pool, found["photos"], *(with_error(found[one]) for one in MEASURES)]
        for pool, found in result["pools"].items()
        if "iou" in found
    ]
    head = [f"pool of the {result['split']} split", "photos", *MEASURES.values()]
    text = tables.markdown(head, rows)
    if empty := result["slices"].get("no people"):
        marked = f"{empty['marked']['mean'] * 100:.2f} %"
        text += f"\n\nOf {empty['photos']} photos without people, {marked} of the area is marked on average."
    return text


def _section(document: str, title: str) -> str:
    """The text under ``## title``; links into the repository become their words."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", document, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ExportError(
            f"docs/model-card.md lacks the section {title!r}, which the hub's card repeats; put it back"
        )
    return re.sub(r"\[([^]]+)\]\((?!https?:)[^)]*\)", r"\1", found[1]).strip()
