"""The training loop: one process or many, resumable at any step, logged as JSON lines.

    python -m bgtrain train training/RECIPE --out runs/RUN
    torchrun --nproc-per-node 8 -m bgtrain train training/configs/tiramisu-large.toml --out runs/large

A killed run goes on with the same command. ``OUT`` holds ``log.jsonl``, ``last.pt`` (to resume), ``best.pt``
(best validation score), ``step-N.png`` (sheets of predictions) and TensorBoard events.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from bgimage import cpu
from bgimage.geometry import network_input
from bgtrain import checkpoint, metrics, modnet, networks, sheets
from bgtrain import recipe as recipes
from bgtrain.command import command_line, data_option
from bgtrain.data import Crops, StepSampler, load_split
from bgtrain.losses import matting_loss, segmentation_loss
from bgtrain.recipe import OptimizerConfig, Phase, Recipe
from bgtrain.shards import data_folder
from bgtrain.tiramisu import Tiramisu

VALIDATION_POOLS = (
    "ccp",
    "vikram_humanseg",
    "people_pseudo",
    "people_more",
    "people_cutout",
    "coco_person",
    "pennfudan",
    "neg_coco",
    "neg_imagenet",
    "neg_davis",
)


SCORED = ("ccp", "vikram_humanseg", "people_pseudo", "coco_20_70")
"""Pools whose mean IoU, less the area marked on photos without people, is the score."""


@dataclass(frozen=True)
class Process:
    """This process of the run: its device, its rank, and how many there are."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @classmethod
    def from_environment(cls) -> Process:
        """Join the group that ``torchrun`` describes, if any; take the local GPU, if any."""
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(device)
        if world > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if cuda else "gloo")
        return cls(device, rank, world)


def learning_rate(step: int, total: int, images: int, config: OptimizerConfig) -> float:
    """Learning rate of ``step`` (0 .. total - 1), when ``images`` have been seen."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.schedule == "exponential":
        return config.lr * warm * config.decay ** (images // config.epoch_images)
    progress = step / total
    if config.schedule == "cosine":
        return config.lr * warm * 0.5 * (1 + float(np.cos(np.pi * progress)))
    return config.lr * warm * min(1.0, (1 - progress) / config.decay_fraction)


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW or RMSprop; biases and normalisation do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        share = config.encoder_lr if name.startswith("encoder.") else 1.0
        if share == 0:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            groups.setdefault((share, decay), []).append(parameter)
    described = [{"params": p, "weight_decay": d, "lr_share": s} for (s, d), p in groups.items()]
    if config.name == "rmsprop":
        return torch.optim.RMSprop(described, lr=config.lr, alpha=0.99)
    return torch.optim.AdamW(described, lr=config.lr, betas=(0.9, 0.99))


def normalise(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (N, 3, H, W), 0..255 -> float (N, 3, H, W) with the contract's mean and deviation taken out."""
    centre = torch.tensor(mean, device=image.device).view(1, 3, 1, 1)
    spread = torch.tensor(std, device=image.device).view(1, 3, 1, 1)
    return (image.float() / 255 - centre) / spread


def computes_bf16(device: torch.device) -> bool:
    """Whether bf16 is computed in hardware (on a CPU without it, it is ten times slower than float32)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.backends.mkldnn.is_available() and "avx512_bf16" in cpu.flags())


def moving_average(model: nn.Module, decay: float, steps: int = 0) -> AveragedModel:
    """Exponential moving average of weights and running statistics, in eval mode, of which ``steps`` are done.

    It moves faster in the first steps, so that the fresh weights are forgotten.
    """

    def move(mine: Any, theirs: Any, step: Tensor | int) -> None:
        """Tensors of one kind, in place."""
        if mine[0].is_floating_point():
            torch._foreach_lerp_(mine, theirs, 1 - min(decay, (1 + int(step)) / (10 + int(step))))
        else:  # counters
            torch._foreach_copy_(mine, theirs)

    average = AveragedModel(model, multi_avg_fn=move, use_buffers=True).eval().requires_grad_(False)
    average.n_averaged.fill_(steps)
    return average


class Validation:
    """The validation photos as the network sees them, and the scores in its own resolution."""

    def __init__(self, root: Path, recipe: Recipe, split: str = "val", limit: int = 0) -> None:
        self.pools: list[str] = []
        images, mattes = [], []
        seen: dict[str, int] = {}
        for row, photo, matte in load_split(root, split, VALIDATION_POOLS):
            pool = "empty" if row.label == "empty" else row.pool
            if pool == "coco_person":
                pool = "coco_20_70" if 0.2 <= row.person_fraction <= 0.7 else "coco_other"
            seen[pool] = seen.get(pool, 0) + 1
            if limit and seen[pool] > limit:
                continue
            self.pools.append(pool)
            images.append(network_input(photo, recipe.contract))
            mattes.append(
                network_input(np.repeat(matte[..., None], 3, 2), replace(recipe.contract, pad_value=0))[:1]
            )
        self.images, self.mattes = torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(mattes))
        self.contract = recipe.contract
        far = [metrics.far_from_outline(matte > 127) for matte in self.mattes[:, 0].numpy()]
        self.far = torch.from_numpy(np.stack(far))[:, None]

    @torch.inference_mode()
    def predict(self, model: nn.Module, device: torch.device, batch: int = 8) -> Tensor:
        """alpha: float32 (N, 1, H, W) on the CPU."""
        parts = []
        for images in self.images.split(batch):
            x = normalise(images.to(device), self.contract.mean, self.contract.std)
            parts.append(torch.sigmoid(model(x.contiguous(memory_format=torch.channels_last)).float()).cpu())
        return torch.cat(parts)

    def overlaps(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Of each photo: IoU at 0.5, and the share that is marked; float (N,)."""
        person, truth = alpha > 0.5, self.mattes > 127
        union = (person | truth).sum((1, 2, 3))
        iou = (person & truth).sum((1, 2, 3)) / union.clamp(min=1)
        return iou, person.float().mean((1, 2, 3))

    def scores(self, alpha: Tensor) -> dict[str, float]:
        """Mean IoU at 0.5 by pool, mean absolute error, area marked on photos without people, and ``score``."""
        iou, area = self.overlaps(alpha)
        scores: dict[str, float] = {}
        for pool in sorted(set(self.pools)):
            chosen = torch.tensor([p == pool for p in self.pools])
            if pool == "empty":
                scores["false_area"] = float(area[chosen].mean())
            else:
                scores[pool] = float(iou[chosen].mean())
        scores["mae"] = float((alpha - self.mattes / 255).abs().mean())
        low, high = metrics.GHOST
        scores["ghost"] = float(((alpha > low) & (alpha < high) & self.far).float().mean())
        scores["score"] = float(np.mean([scores[pool] for pool in SCORED if pool in scores])) - scores.get(
            "false_area", 0.0
        )
        return scores

    def sheet(self, alpha: Tensor, each: int = 4) -> NDArray[np.uint8]:
        """RGB picture: photo, prediction and truth of the first photos of each pool."""
        rows = []
        for pool in sorted(set(self.pools)):
            tiles = []
            for i in [i for i, p in enumerate(self.pools) if p == pool][:each]:
                photo = self.images[i].permute(1, 2, 0).numpy()
                mattes = (alpha[i, 0].numpy(), (self.mattes[i, 0] / 255).numpy())
                tiles += [photo, *(sheets.on_colour(photo, matte) for matte in mattes)]
            tiles += [np.zeros_like(tiles[0])] * (3 * each - len(tiles))
            rows.append(np.hstack([cv2.resize(t, (160, 160), interpolation=cv2.INTER_AREA) for t in tiles]))
        return np.vstack(rows)


def phase_at(recipe: Recipe, step: int) -> tuple[Phase, int, int]:
    """The phase of ``step``, its last step + 1, and the number of the crop with which ``step`` begins."""
    start = crops = 0
    for phase in recipe.phases:
        if step < start + phase.steps:
            return phase, start + phase.steps, crops + (step - start) * phase.batch
        start, crops = start + phase.steps, crops + phase.steps * phase.batch
    raise ValueError(f"step {step} is past the recipe's {start}")


class Trainer:
    """State of one run."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        root: Path,
        process: Process,
        workers: int,
        start: Path | None,
        *,
        compiler: str = "",
        loaded: tuple[Crops, Validation] | None = None,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.out, self.root, self.process, self.workers = recipe, out, root, process, workers
        self.model = networks.build(recipe.network).to(process.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out
        if recipe.modnet:
            modnet.load_modnet(self.model.get_submodule("encoder"))
        if isinstance(self.model, Tiramisu):
            self.model.freeze(recipe.frozen_stages)
        self.step = self.best_step = 0
        self.best = -1.0
        if start is not None and not (out / "last.pt").exists():
            self.model.load_state_dict(checkpoint.load(start).model().state_dict())
        self.optimizer = make_optimizer(self.model, recipe.optimizer)
        last = checkpoint.load(out / "last.pt") if (out / "last.pt").exists() else None
        if last is not None:
            self._resume(last)
        self.average = moving_average(self.model, recipe.optimizer.ema, self.step)
        if last is not None:
            self.averaged.load_state_dict(last.weights)
        self.parallel: nn.Module = self.model
        if process.world > 1:
            self.parallel = DistributedDataParallel(
                self.model,
                broadcast_buffers=not recipe.freeze_batchnorm,
                # a step may leave one of its heads out
                find_unused_parameters=isinstance(self.model, Tiramisu),
            )
        if compiler:
            self.parallel.compile(backend=compiler)
        self.validation: Validation | None = None
        if loaded is not None:
            self.crops, self.validation = loaded
        else:
            size = recipe.phases[0].size
            self.crops = Crops(root, recipe.data, recipe.augment, size=size, seed=recipe.seed)
            if process.rank == 0:
                self.validation = Validation(root, recipe)
        bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and computes_bf16(process.device))
        self.autocast = torch.autocast(process.device.type, torch.bfloat16) if bf16 else nullcontext()

    def _resume(self, last: checkpoint.Checkpoint) -> None:
        assert last.resume is not None
        self.model.load_state_dict(last.resume["model"])
        self.optimizer.load_state_dict(last.resume["optimizer"])
        self.step, self.best, self.best_step = (last.resume[k] for k in ("step", "best", "best_step"))

    @property
    def averaged(self) -> nn.Module:
        """The averaged network, which is validated and published."""
        return self.average.module

    def snapshot(self, metrics: dict[str, float], *, resumable: bool) -> checkpoint.Checkpoint:
        """The averaged network as a checkpoint."""
        recipe = self.recipe
        resume = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
            "best_step": self.best_step,
        }
        weights = {k: v.cpu().contiguous() for k, v in self.averaged.state_dict().items()}
        recorded = json.loads(json.dumps(recipe.to_dict()))
        return checkpoint.Checkpoint(
            recipe.network, recipe.contract, recorded, metrics, weights, resume if resumable else None
        )

    def batches(self, phase: Phase, stop: int, first: int) -> Iterator[dict[str, Tensor]]:
        """Batches of this process from the current step to the end of the phase."""
        self.crops.size = phase.size
        sampler = StepSampler(phase.batch, first, stop - self.step, self.process.rank, self.process.world)
        return iter(
            torch.utils.data.DataLoader(
                self.crops,
                batch_sampler=sampler,
                num_workers=self.workers,
                prefetch_factor=4 if self.workers else None,
                pin_memory=self.process.device.type == "cuda",
                worker_init_fn=_quiet_worker,
            )
        )

    def rate(self, images: int) -> float:
        """Learning rate of this step, when ``images`` have been seen."""
        return learning_rate(self.step, self.recipe.steps, images, self.recipe.optimizer)

    def learn(self, batch: dict[str, Tensor], phase: Phase, images: int) -> float:
        """One optimizer step; the loss."""
        config, device = self.recipe.optimizer, self.process.device
        # dropout draws from a generator that depends on the step alone: a resumed run draws the same
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step * self.process.world + self.process.rank)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(images) * group["lr_share"]
        self.parallel.train()
        if self.recipe.freeze_batchnorm:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        if isinstance(self.model, Tiramisu):
            self.model.segment_only = self.step % (self.recipe.segment_steps + 1) > 0
        parts = {k: v.to(device, non_blocking=True).chunk(phase.accumulate) for k, v in batch.items()}
        total = 0.0
        for part in range(phase.accumulate):
            x = normalise(parts["image"][part], self.recipe.contract.mean, self.recipe.contract.std)
            last = part == phase.accumulate - 1
            with self._no_sync() if not last else nullcontext():
                with self.autocast:
                    logits = self.parallel(x.contiguous(memory_format=torch.channels_last))
                target, weight, segment_weight = (
                    parts[k][part].float() / 255 for k in ("alpha", "weight", "segment_weight")
                )
                loss = self._loss(logits, target, weight, segment_weight) / phase.accumulate
                loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.model)
        return total

    def _loss(
        self, logits: Tensor | tuple[Tensor, Tensor], target: Tensor, weight: Tensor, segment_weight: Tensor
    ) -> Tensor:
        """Of the matte, the segmentation, or both, as the network answered."""
        config = self.recipe.loss
        if isinstance(self.model, Tiramisu) and self.model.segment_only:
            assert isinstance(logits, Tensor)
            return segmentation_loss(logits, target, segment_weight)
        matte, segment = logits if isinstance(logits, tuple) else (logits, None)
        loss = matting_loss(matte, target, weight, config)
        if segment is not None and config.segment:
            loss = loss + config.segment * segmentation_loss(segment, target, segment_weight)
        return loss

    def _no_sync(self) -> AbstractContextManager[None]:
        """Within, gradients are summed in each process alone."""
        return (
            self.parallel.no_sync() if isinstance(self.parallel, DistributedDataParallel) else nullcontext()
        )

    def validate(self) -> dict[str, float]:
        """Score the averaged network; keep it as ``best.pt`` if it is the best so far."""
        assert self.validation is not None
        alpha = self.validation.predict(self.averaged, self.process.device)
        scores = self.validation.scores(alpha)
        cv2.imwrite(str(self.out / f"step-{self.step:06d}.png"), self.validation.sheet(alpha)[..., ::-1])
        if scores["score"] > self.best:
            self.best, self.best_step = scores["score"], self.step
            self.snapshot(scores, resumable=False).save(self.out / "best.pt")
        return scores

    def run(self, report: Report) -> None:
        """``learn_all``. Interrupted, it leaves ``last.pt`` to resume from; the report is closed in any case."""
        try:
            self.learn_all(report)
        except KeyboardInterrupt:
            if self.process.rank == 0:
                self.snapshot({}, resumable=True).save(self.out / "last.pt")
            raise
        finally:
            report.close()

    def learn_all(self, report: Report) -> None:
        """Train to the end of the recipe, or until patience is lost."""
        recipe = self.recipe
        while self.step < recipe.steps:
            phase, stop, images = phase_at(recipe, self.step)
            for batch in self.batches(phase, stop, images):
                loss = self.learn(batch, phase, images)
                self.step += 1
                images += phase.batch
                report.step(self.step, loss, phase, max(g["lr"] for g in self.optimizer.param_groups))
                if self.process.rank == 0 and self.step % recipe.save_every == 0:
                    self.snapshot({}, resumable=True).save(self.out / "last.pt")
                if self.step % recipe.validate_every == 0 or self.step == recipe.steps:
                    if self.process.rank == 0:
                        report.scores(self.step, self.validate())
                        self.snapshot({}, resumable=True).save(self.out / "last.pt")
                    if self._out_of_patience():
                        report.say(f"no better score since step {self.best_step}: stopped at {self.step}")
                        return

    def _out_of_patience(self) -> bool:
        recipe = self.recipe
        lost = recipe.patience > 0 and self.step - self.best_step >= recipe.patience * recipe.validate_every
        if self.process.world > 1:  # only the first process validates; all must stop together
            flag = torch.tensor([float(lost)], device=self.process.device)
            torch.distributed.broadcast(flag, 0)
            lost = bool(flag.item())
        return lost


def _quiet_worker(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class Report:
    """JSON lines for machines, TensorBoard events; for people lines on stderr, and a bar where that is a terminal."""

    def __init__(self, out: Path, total: int, *, active: bool, every: int = 50) -> None:
        self.total, self.every, self.active = total, every, active
        self.losses: list[float] = []
        self.began = time.perf_counter()
        self.bar: Progress | None = None
        if active:
            if sys.stderr.isatty():
                self.bar = Progress(console=Console(stderr=True), transient=True)
                self.bar.add_task("training", total=total)
                self.bar.start()
            out.mkdir(parents=True, exist_ok=True)
            self.log = (out / "log.jsonl").open("a")
            try:
                from torch.utils.tensorboard import SummaryWriter  # slow import, and optional

                self.events: Any = SummaryWriter(str(out))
            except ImportError:
                self.events = None

    def write(self, record: dict[str, Any]) -> None:
        """One JSON line, and the same numbers as TensorBoard events."""
        self.log.write(json.dumps(record) + "\n")
        self.log.flush()
        for name, value in record.items():
            if self.events is not None and name != "step" and isinstance(value, int | float):
                self.events.add_scalar(name, value, record["step"])

    def say(self, text: str) -> None:
        """A line for people."""
        if self.bar:
            self.bar.console.print(text, highlight=False)
        elif self.active:
            print(text, file=sys.stderr, flush=True)

    def step(self, step: int, loss: float, phase: Phase, lr: float) -> None:
        """Count one step; write a record every ``every`` steps."""
        if not self.active:
            return
        self.losses.append(loss)
        if self.bar:
            self.bar.update(self.bar.task_ids[0], completed=step)
        if step % self.every and step != self.total:
            return
        speed = len(self.losses) * phase.batch / (time.perf_counter() - self.began)
        mean = float(np.mean(self.losses))
        self.write(
            {
                "step": step,
                "loss": mean,
                "lr": lr,
                "images_per_s": speed,
                "size": phase.size,
                "time_s": time.time(),
            }
        )
        self.say(f"step {step}/{self.total}  loss {mean:.4f}  {phase.size} px  {speed:.1f} images/s")
        self.losses, self.began = [], time.perf_counter()

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self.bar:
            self.bar.stop()

    def scores(self, step: int, scores: dict[str, float]) -> None:
        """Log a validation."""
        self.write({"step": step, "val": scores, **{f"val/{k}": v for k, v in scores.items()}})
        self.say("val    " + "  ".join(f"{k} {v:.4f}" for k, v in scores.items()))
        self.began = time.perf_counter()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; exit status 2 for a bad recipe or missing data."""
    parser = command_line("train", __doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an existing run goes on")
    data_option(parser)
    parser.add_argument("--start", type=Path, default=None, help="checkpoint whose weights to begin with")
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads of the network (0: torch's choice)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that make crops")
    parser.add_argument(
        "--steps", type=int, default=0, help="stop the last phase earlier or later, at this step"
    )
    parser.add_argument("--network", default="", help="another network than the recipe's")
    parser.add_argument(
        "--compile",
        default="",
        metavar="BACKEND",
        help="torch.compile: inductor (gains on a GPU; see README.md)",
    )
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(0)
    process = Process.from_environment()
    recipe = recipes.load(arguments.recipe)
    if arguments.network:
        recipe = replace(recipe, network=arguments.network)
    if arguments.steps:
        recipe = _with_steps(recipe, arguments.steps)
    trainer = Trainer(
        recipe,
        arguments.out,
        data_folder(arguments.data),
        process,
        arguments.workers,
        arguments.start,
        compiler=arguments.compile,
    )
    report = Report(arguments.out, recipe.steps, active=process.rank == 0)
    report.say(
        f"{recipe.network}: step {trainer.step} of {recipe.steps}, {len(trainer.crops)} photos, {process.device}"
    )
    try:
        trainer.run(report)
    except KeyboardInterrupt:
        report.say(f"stopped at step {trainer.step}; the same command goes on from there")
        return 130
    finally:
        if process.world > 1:
            torch.distributed.destroy_process_group()
    return 0


def _with_steps(recipe: Recipe, steps: int) -> Recipe:
    *earlier, last = recipe.phases
    rest = steps - sum(phase.steps for phase in earlier)
    if rest < 1:
        raise recipes.RecipeError(f"--steps {steps}: the earlier phases alone have {steps - rest}")
    return replace(recipe, phases=(*earlier, replace(last, steps=rest)))


if __name__ == "__main__":
    raise SystemExit(main())
