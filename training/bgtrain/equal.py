"""All networks or levers, under one equal budget: ``python -m bgtrain compare --train`` or ``--levers``.

Each is trained on the same split, for the same time on this machine; how many crops it saw in that time is recorded
beside its scores. Networks are trained by the same recipe, with the same crops in the same order. A lever is one change
of the recipe. On a CPU the time is processor time over the threads, so that other work on the machine takes little from
any of them (caches and memory are shared). The learning rate follows the clock, so that a slow network has warmed up
and come down too when its time is over. Statistics of the batches are recalibrated, then all are scored at the budget's
resolution: networks on the test split, levers on the validation split.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bgimage import cpu
from bgtrain import networks, recipe, tables
from bgtrain.data import Crops
from bgtrain.recalibrate import crop_batches, recalibrate
from bgtrain.recipe import Phase, Recipe
from bgtrain.statistics import standard_error, with_error
from bgtrain.tiramisu import TIRAMISU, multiply_accumulates, parameter_count
from bgtrain.train import Process, Trainer, Validation

WARM = 0.05
"""Share of the time in which the learning rate rises."""
ENCODER_LR = 0.25
"""Of a way down that begins with published weights, as a fraction of the learning rate; its own recipe's."""
SETTLING_CROPS = 128
"""On which batch statistics are recalibrated."""


@dataclass(frozen=True)
class Budget:
    """What every network gets."""

    minutes: float
    size: int
    """Side of crops and of the network's input, pixels."""
    batch: int


class TimedTrainer(Trainer):
    """A run that ends with its time, not with its recipe."""

    spent = 0.0
    """Share of the time, 0..1."""

    def rate(self, images: int) -> float:
        """Up in the first ``WARM`` of the time, held, and linearly down in the last ``decay_fraction``."""
        config = self.recipe.optimizer
        return config.lr * min(1.0, self.spent / WARM, (1 - self.spent) / config.decay_fraction)

    def train_for(self, seconds: float, clock: Callable[[], float]) -> dict[str, Any]:
        """Train so long; steps, crops, seconds and the mean loss of the last tenth of the steps."""
        phase, losses = self.recipe.phases[0], []
        batches: Iterator[dict[str, Tensor]] = self.batches(phase, 10**9, 0)
        began = clock()
        while (now := clock() - began) < seconds:
            self.spent = now / seconds
            losses.append(self.learn(next(batches), phase, self.step * phase.batch))
            self.step += 1
        last = losses[-max(1, len(losses) // 10) :]
        return {
            "steps": self.step,
            "crops": self.step * phase.batch,
            "seconds": round(clock() - began, 1),
            "loss": sum(last) / len(last),
        }


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds of a GPU, or of this process's threads, each taken for one processor."""
    if device.type == "cpu":
        return lambda: time.process_time() / torch.get_num_threads()
    return time.perf_counter


def recipe_for(network: str, base: Recipe, budget: Budget) -> Recipe:
    """``base`` for another network and size; a network with published weights begins with them."""
    begun = network == TIRAMISU
    optimizer = replace(base.optimizer, encoder_lr=ENCODER_LR) if begun else base.optimizer
    return replace(
        base,
        network=network,
        modnet=begun,
        optimizer=optimizer,
        contract=replace(base.contract, size_hw=(budget.size, budget.size)),
        phases=(Phase(size=budget.size, steps=1, batch=budget.batch),),
    )


def read_levers(path: Path, budget: Budget) -> dict[str, Recipe]:
    """Recipes by name: of a file of ``[recipe]`` and ``[[levers]]``, each a ``name`` and what it changes.

    The first one is what the others are compared with. ``RecipeError`` names what is wrong.
    """
    values = recipe.read(path, {"recipe", "levers"})
    common = recipe.merged(values.get("recipe", {}), {"contract": {"size_hw": [budget.size, budget.size]}})
    common["phases"] = [{"size": budget.size, "steps": 1, "batch": budget.batch}]
    found = {}
    for number, lever in enumerate(values.get("levers", ()), 1):
        name = lever.pop("name", f"lever {number}")
        found[name] = recipe.from_dict(recipe.merged(common, lever), f"{path}: {name!r}")
    if not found:
        raise recipe.RecipeError(f"{path}: add at least one [[levers]]")
    return found


def scores(test: Validation, alpha: Tensor) -> dict[str, Any]:
    """IoU of every pool with people and area marked on photos without: values, their mean and standard error."""
    iou, area = test.overlaps(alpha)
    found: dict[str, Any] = {}
    for pool in sorted(set(test.pools)):
        values = (area if pool == "empty" else iou)[torch.tensor([p == pool for p in test.pools])]
        found[pool] = {
            "mean": float(values.mean()),
            "se": standard_error(values),
            "photos": len(values),
            "values": [round(value, 4) for value in values.tolist()],
        }
    return {"pools": found, **{k: v for k, v in test.scores(alpha).items() if k in ("mae", "ghost", "score")}}


def machine() -> dict[str, Any]:
    """What the time was spent on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": cpu.model(),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def train_equally(
    runs: Mapping[str, Recipe], budget: Budget, root: Path, out: Path, split: str, *, workers: int = 1
) -> dict[str, Any]:
    """Train and score by every recipe; ``out`` is written after each, and those it has already are kept.

    It is read again each time: another call may write it meanwhile.
    """
    seed = next(iter(runs.values())).seed
    settings = {**dataclasses.asdict(budget), "seed": seed, "split": split}
    crops: Crops | None = None
    cropped: Any = None  # as what
    test: Validation | None = None
    process = Process.from_environment()
    for name, run in runs.items():
        if name in _begun(out, settings)["networks"]:
            continue
        if crops is None or cropped != (run.data, run.augment):
            crops = Crops(root, run.data, run.augment, size=budget.size, seed=seed)
            cropped = run.data, run.augment
        test = test or Validation(root, run, split=split)
        trainer = TimedTrainer(run, out.parent / "none", root, process, workers, None, loaded=(crops, test))
        entry = trainer.train_for(60 * budget.minutes, clock(process.device))
        model = trainer.averaged
        settling = crop_batches(crops, run.contract, SETTLING_CROPS)
        recalibrate(model, (batch.to(process.device) for batch in settling))
        shape = networks.build(run.network)
        done = {
            "parameters": parameter_count(shape),
            "gmac": multiply_accumulates(shape, run.contract.size_hw) / 1e9,
            "begins_with": "MODNet" if run.modnet else "fresh weights",
            **entry,
            **scores(test, test.predict(model, process.device)),
        }
        result = _begun(out, settings)
        result["networks"][name] = done
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{name}: {entry['crops']} crops, score {done['score']:.4f}", flush=True)
    return _begun(out, settings)


def _begun(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The result in ``out``, if its settings are these; else one without networks."""
    there = json.loads(out.read_text()) if out.exists() else {}
    if there and all(there.get(name) == value for name, value in settings.items()):
        return dict(there)
    return {**settings, "machine": machine(), "networks": {}}


def markdown(result: dict[str, Any]) -> str:
    """A row a network, the best score first."""
    entries = sorted(result["networks"].items(), key=lambda item: -item[1]["score"])
    known = [entry["pools"] for _, entry in entries]  # a pool may be newer than some network's entry
    pools = [pool for pool in known[0] if pool != "empty" and all(pool in scored for scored in known)]
    head = [
        "network",
        "begins with",
        "parameters",
        "GMAC",
        "crops",
        *pools,
        "area marked without people",
        "MAE",
    ]
    rows = []
    for name, entry in entries:
        cells = [name, entry["begins_with"], f"{entry['parameters'] / 1e6:.2f} M", f"{entry['gmac']:.2f}"]
        cells += [f"{entry['crops']:,}"]
        cells += [with_error(entry["pools"][pool]) for pool in pools]
        nobody = entry["pools"].get("empty")
        cells += [with_error(nobody, ".1%") if nobody else "", f"{entry['mae']:.4f}"]
        rows.append(cells)
    return f"{_budget(result)}\n\n{tables.markdown(head, rows)}\n"


def levers_markdown(result: dict[str, Any]) -> str:
    """A row a lever in the file's order, with the paired difference of each from the first and its standard error."""
    entries = result["networks"]
    base = next(iter(entries.values()))
    pools = [pool for pool in base["pools"] if pool != "empty"]
    rows = []
    for name, entry in entries.items():
        people = [_difference(entry["pools"][pool], base["pools"][pool]) for pool in pools]
        mean = sum(one for one, _ in people) / len(people)
        spread = sum(se**2 for _, se in people) ** 0.5 / len(people)
        cells = [name, f"{entry['crops']:,}"]
        if entry is base:
            cells += [f"{base['pools'][pool]['mean']:.3f}" for pool in pools] + [""]
        else:
            cells += [f"{one:+.3f} ± {se:.3f}" for one, se in people] + [f"{mean:+.4f} ± {spread:.4f}"]
        nobody = f"{entry['pools']['empty']['mean']:.1%}" if "empty" in entry["pools"] else ""
        rows.append([*cells, nobody, f"{entry['ghost']:.1%}", f"{entry['mae']:.4f}"])
    head = ["", "crops", *pools, "mean over the pools", "area marked without people", "ghost", "MAE"]
    return f"{_budget(result)}\n\n{tables.markdown(head, rows)}\n"


def _difference(pool: dict[str, Any], base: dict[str, Any]) -> tuple[float, float]:
    """Mean difference of the same photos' values and its standard error."""
    values = np.subtract(pool["values"], base["values"])
    return float(values.mean()), standard_error(values)


def _budget(result: dict[str, Any]) -> str:
    where = result["machine"]["gpu"] or (
        f"{result['machine']['threads']} threads of an {result['machine']['cpu']}, in processor time"
    )
    return (
        f"{result['minutes']:g} minutes each on {where}; {result['size']} pixels, {result['batch']} crops a step, "
        f"seed {result['seed']}; IoU at 0.5 on the {result['split']} split at the network's resolution."
    )
