"""``python -m bgtrain``: the command line of training, evaluation and data."""

from __future__ import annotations

import importlib
import sys

from bgimage.errors import BgError

COMMANDS = {
    "make": "make published weights: every stage of a chain, scored",
    "train": "train a network from a recipe",
    "modnet": "fetch the published weights of MODNet that a tiramisu begins with",
    "average": "the mean of two runs' weights",
    "recalibrate": "measure a trained network's batch statistics anew",
    "evaluate": "score a network, or any tool's alphas, on labelled photos",
    "publish": "write an evaluation's scores into README and model card",
    "expected": "measure what IoU to expect of a cut-out, and check it",
    "closer": "what a second, closer look gains where a cut-out is doubtful",
    "mend": "what simulated strokes gain on the photos that a network cuts worst",
    "compare": "one table of several evaluations, or of all networks under one equal budget",
    "distill": "label photos with a network, to teach another one",
    "relabel": "let a teacher draw the outlines that polygons only sketch",
    "polygons": "measure what pulling coarse polygons towards the photo's edges gains",
    "coco": "filter COCO to people worth cutting out",
    "convert": "pack a data set into shards",
    "inspect": "contact sheets, histograms, near-duplicates across splits",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 if it did what was asked, 1 if not, 2 where there is no such command."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if name not in COMMANDS:
        asked_for_help = name in ("-h", "--help")
        lines = [f"  {command:<12} {what}" for command, what in COMMANDS.items()]
        text = "\n".join(["usage: python -m bgtrain COMMAND ... (each has --help)", "", *lines])
        print(text, file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 2
    try:
        # imported here: "inspect" shall not wait for torch, and "--help" for nothing
        return importlib.import_module(f"bgtrain.{name}").main(rest) or 0
    except BgError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
