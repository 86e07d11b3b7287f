"""All networks under one equal budget: ``python -m bgtrain compare --train RECIPE --minutes 3 --out equal.json``.

Each is trained by the same recipe, on the same split, with the same crops in the same order, for the same time on this
machine; how many crops it saw in that time is recorded beside its scores. On a CPU that is processor time over the
threads, so that other work on the machine takes nothing from any of them. The learning rate follows the clock, so that
a slow network has warmed up and come down too when its time is over. Statistics of the batches are recalibrated, then
every network is scored on the test split at its own resolution.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bgimage import cpu
from bgtrain import networks, tables
from bgtrain.data import Crops
from bgtrain.recalibrate import crop_batches, recalibrate
from bgtrain.recipe import Phase, Recipe
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


def scores(test: Validation, alpha: Tensor) -> dict[str, Any]:
    """IoU of every pool with people and area marked on photos without: mean, standard error, number of photos."""
    iou, area = test.overlaps(alpha)
    found: dict[str, Any] = {}
    for pool in sorted(set(test.pools)):
        values = (area if pool == "empty" else iou)[torch.tensor([p == pool for p in test.pools])]
        spread = float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0
        found[pool] = {"mean": float(values.mean()), "se": spread, "photos": len(values)}
    return {"pools": found, **{k: v for k, v in test.scores(alpha).items() if k in ("mae", "score")}}


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
    names: Sequence[str], base: Recipe, budget: Budget, root: Path, out: Path, *, workers: int = 1
) -> dict[str, Any]:
    """Train and score every network; ``out`` is written after each, and those it has already are kept."""
    settings = {**dataclasses.asdict(budget), "seed": base.seed, "split": "test"}
    result: dict[str, Any] = {**settings, "machine": machine(), "networks": {}}
    if out.exists():
        there = json.loads(out.read_text())
        if all(there.get(name) == value for name, value in settings.items()):
            result = there
    loaded: tuple[Crops, Validation] | None = None
    process = Process.from_environment()
    for name in names:
        if name in result["networks"]:
            continue
        recipe = recipe_for(name, base, budget)
        if loaded is None:
            crops = Crops(root, recipe.data, recipe.augment, size=budget.size, seed=recipe.seed)
            loaded = crops, Validation(root, recipe, split="test")
        crops, test = loaded
        trainer = TimedTrainer(recipe, out.parent / "none", root, process, workers, None, loaded=loaded)
        entry = trainer.train_for(60 * budget.minutes, clock(process.device))
        model = trainer.averaged
        settling = crop_batches(crops, recipe.contract, SETTLING_CROPS)
        recalibrate(model, (batch.to(process.device) for batch in settling))
        shape = networks.build(name)
        result["networks"][name] = {
            "parameters": parameter_count(shape),
            "gmac": multiply_accumulates(shape, recipe.contract.size_hw) / 1e9,
            "begins_with": "MODNet" if recipe.modnet else "fresh weights",
            **entry,
            **scores(test, test.predict(model, process.device)),
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{name}: {entry['crops']} crops, score {result['networks'][name]['score']:.4f}", flush=True)
    return result


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
        "area marked, nobody there",
        "MAE",
    ]
    rows = []
    for name, entry in entries:
        cells = [name, entry["begins_with"], f"{entry['parameters'] / 1e6:.2f} M", f"{entry['gmac']:.2f}"]
        cells += [f"{entry['crops']:,}"]
        cells += [f"{entry['pools'][pool]['mean']:.3f} ± {entry['pools'][pool]['se']:.3f}" for pool in pools]
        nobody = entry["pools"].get("empty")
        cells += [f"{nobody['mean']:.1%} ± {nobody['se']:.1%}" if nobody else "", f"{entry['mae']:.4f}"]
        rows.append(cells)
    told = result["machine"]
    where = told["gpu"] or f"{told['threads']} threads of an {told['cpu']}, in processor time"
    title = (
        f"{result['minutes']:g} minutes each on {where}; {result['size']} pixels, {result['batch']} crops a step, "
        f"seed {result['seed']}; IoU at 0.5 on the {result['split']} split at the network's resolution."
    )
    return f"{title}\n\n{tables.markdown(head, rows)}\n"
