"""The model card: facts that a release writes between two marks, and prose around them that people write."""

from __future__ import annotations

from pathlib import Path

import onnx

from bgexport.graph import metadata, sha256_of
from bgtrain import tables
from bgtrain.checkpoint import Checkpoint
from bgtrain.tiramisu import multiply_accumulates, parameter_count

BEGIN, END = "<!-- facts: written by python -m bgexport release -->", "<!-- end of facts -->"

SKELETON = f"""# Model card

{BEGIN}
{END}

## Data

## Recipe

## Scores

## Known failures

## Licence
"""


def update_card(card: Path, served: Checkpoint, path: Path, page: Path) -> None:
    """Put the facts of the network and its two files between the marks of ``card``, new where there is none."""
    card.parent.mkdir(parents=True, exist_ok=True)
    if not card.exists():
        card.write_text(SKELETON)
    tables.replace_between(card, BEGIN, END, facts(served, path, page))


def facts(served: Checkpoint, path: Path, page: Path) -> str:
    """Markdown tables: the network, its files for server and web page, and the scores that the checkpoint carries."""
    net, contract = served.model(), served.contract
    height, width = contract.size_hw
    stamps = metadata(onnx.load(path))
    rows = {
        "network": f"`{served.network}`, {parameter_count(net):,} parameters",
        "cost": f"{multiply_accumulates(net, contract.size_hw) / 1e9:.2f} GMAC a photo",
        "input": f"`{contract.input_tensor}` uint8 (N, 3, {height}, {width}), RGB, {contract.fit}",
        "output": f"`{contract.output_tensor}` float32 (N, 1, {height}, {width}), 0..1",
        "server, in-process engine": _file(path, "/".join(path.parts[-3:])),
        "web page": _file(page, page.name),
        "SHA-256 of the weights": f"`{stamps['weights_sha256']}`",
        "contract": f"`{contract.fingerprint}`",
        "licence": stamps["licence"],
    }
    text = f"\n{tables.markdown(['fact', 'value'], rows.items())}\n\n"
    if served.metrics:
        scores = [[name, f"{value:.4g}"] for name, value in sorted(served.metrics.items())]
        text += f"{tables.markdown(['validation, in training', 'value'], scores)}\n\n"
    return text


def _file(path: Path, name: str) -> str:
    model = onnx.load(path)
    return (
        f"`{name}`, {path.stat().st_size / 1e6:.2f} MB, {metadata(model)['precision']}, "
        f"opset {model.opset_import[0].version}, SHA-256 `{sha256_of(path)}`"
    )
