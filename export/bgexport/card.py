"""The model card: facts that a release writes between two marks, and prose around them that people write."""

from __future__ import annotations

from pathlib import Path

import onnx

from bgexport.graph import metadata, sha256_of
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


def update_card(card: Path, served: Checkpoint, path: Path, browser: Checkpoint, page: Path) -> None:
    """Put the facts of both networks and their files between the marks of ``card``, new where there is none."""
    card.parent.mkdir(parents=True, exist_ok=True)
    if not card.exists():
        card.write_text(SKELETON)
    replace_between(card, BEGIN, END, facts(served, path, browser, page))


def replace_between(document: Path, begin: str, end: str, text: str) -> None:
    """Put ``text`` between two marks of ``document``. ``ValueError`` where one is missing."""
    head, found, rest = document.read_text().partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"{document} lacks the marks {begin!r} and {end!r}; put them where the text belongs")
    document.write_text(f"{head}{begin}\n{text}{end}{tail}")


def facts(served: Checkpoint, path: Path, browser: Checkpoint, page: Path) -> str:
    """Markdown tables: the server's and the browser's network, and the scores that the server's checkpoint carries."""
    columns = [_column(served, path, "/".join(path.parts[-3:])), _column(browser, page, page.name)]
    table = "".join(f"| {name} | {value} | {columns[1][name]} |\n" for name, value in columns[0].items())
    scores = "".join(f"| {name} | {value:.4g} |\n" for name, value in sorted(served.metrics.items()))
    text = f"\n| fact | served | in the browser |\n|---|---|---|\n{table}\n"
    return text + (f"| `{served.network}`, in training | value |\n|---|---|\n{scores}\n" if scores else "")


def _column(checkpoint: Checkpoint, path: Path, name: str) -> dict[str, str]:
    model, net, contract = onnx.load(path), checkpoint.model(), checkpoint.contract
    height, width = contract.size_hw
    stamps = metadata(model)
    return {
        "network": f"`{checkpoint.network}`, {parameter_count(net):,} parameters",
        "cost": f"{multiply_accumulates(net, contract.size_hw) / 1e9:.2f} GMAC a photo",
        "input": f"`{contract.input_tensor}` uint8 (N, 3, {height}, {width}), RGB, {contract.fit}",
        "output": f"`{contract.output_tensor}` float32 (N, 1, {height}, {width}), 0..1",
        "file": f"`{name}`, {path.stat().st_size / 1e6:.2f} MB, {stamps['precision']}, "
        f"opset {model.opset_import[0].version}",
        "SHA-256 of the file": f"`{sha256_of(path)}`",
        "SHA-256 of the weights": f"`{stamps['weights_sha256']}`",
        "contract": f"`{contract.fingerprint}`",
        "licence": stamps["licence"],
    }
