"""A run can be killed anywhere, and divided among processes, without changing what it learns."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bgtrain import checkpoint, equal, make, recipe, train
from bgtrain.recipe import OptimizerConfig, Phase

ROOT = Path(__file__).parents[2]


def run(recipe_path, out, data, *more):
    arguments = [str(recipe_path), "--out", str(out), "--data", str(data), "--workers", "0", *more]
    assert train.main(arguments) == 0
    return checkpoint.load(out / "last.pt")


@pytest.fixture
def whole(tiny_recipe, tiny_data, tmp_path):
    """The last checkpoint of a run that nobody interrupted."""
    return run(tiny_recipe, tmp_path / "whole", tiny_data)


@pytest.mark.parametrize("killed", [3, 5, 7], ids=lambda step: f"at step {step}")
def test_a_resumed_run_ends_with_the_same_weights(whole, killed, tiny_recipe, tiny_data, tmp_path):
    interrupted = train.Trainer(
        recipe.load(tiny_recipe), tmp_path / "parts", tiny_data, train.Process(torch.device("cpu")), 0, None
    )
    report = train.Report(tmp_path / "parts", 8, active=True)

    def die(step, *_):
        if step == killed:
            raise KeyboardInterrupt  # a step after a checkpoint; after step 4 the crops are larger

    report.step = die
    with pytest.raises(KeyboardInterrupt):
        interrupted.learn_all(report)
    assert checkpoint.load(tmp_path / "parts/last.pt").resume["step"] == killed - 1
    resumed = run(tiny_recipe, tmp_path / "parts", tiny_data)
    for name, value in whole.weights.items():
        assert torch.equal(value, resumed.weights[name]), name


def test_frozen_stages_keep_their_weights_and_steps_of_the_segmentation_spare_the_matte_head(
    tiny_recipe, tiny_data, tmp_path
):
    keys = '"tiramisu"\nfrozen_stages = 2\nsegment_steps = 1'
    text = tiny_recipe.read_text().replace('"tiramisu"', keys).replace("size = 32", "size = 64")
    tiny_recipe.write_text(
        text.replace("[optimizer]", "[loss]\nsegment = 0.5\n[optimizer]\nweight_decay = 0.0")
    )
    trainer = train.Trainer(
        recipe.load(tiny_recipe), tmp_path / "out", tiny_data, train.Process(torch.device("cpu")), 0, None
    )
    phase = trainer.recipe.phases[0]
    batches = iter(trainer.batches(phase, 2, 0))

    def changed():
        before = {name: value.clone() for name, value in trainer.model.named_parameters()}
        trainer.learn(next(batches), phase, 0)
        trainer.step += 1
        after = trainer.model.named_parameters()
        return {name for name, value in after if not torch.equal(value, before[name])}

    whole, segmentation = changed(), changed()
    assert {"encoder.stages.2.0.layers.0.weight", "head_full.1.weight", "segment.weight"} <= whole
    assert not any(name.startswith("head_") for name in segmentation)
    assert "segment.weight" in segmentation
    for name in whole | segmentation:
        assert not name.startswith(("encoder.stem", "encoder.stages.0.", "encoder.stages.1.")), name


def test_a_run_leaves_a_log_a_sheet_and_its_best_network(tiny_recipe, tiny_data, tmp_path):
    last = run(tiny_recipe, tmp_path / "out", tiny_data)
    assert last.resume["step"] == 8
    lines = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert {"step", "loss", "lr", "images_per_s", "size"} <= set(lines[-2])
    assert {"ccp", "mae", "false_area", "score"} <= set(lines[-1]["val"])
    assert (tmp_path / "out/step-000008.png").stat().st_size > 1000
    best = checkpoint.load(tmp_path / "out/best.pt")
    assert best.resume is None
    assert best.contract == recipe.load(tiny_recipe).contract
    assert best.metrics["score"] == max(line["val"]["score"] for line in lines if "val" in line)


def test_another_network_follows_the_same_recipe_and_the_large_one_learns(tiny_recipe, tiny_data, tmp_path):
    last = run(tiny_recipe, tmp_path, tiny_data, "--network", "tiramisu-large", "--steps", "5")
    assert (last.network, last.resume["step"]) == ("tiramisu-large", 5)
    (line,) = [json.loads(x) for x in (tmp_path / "log.jsonl").read_text().splitlines() if "loss" in x]
    assert 0 < line["loss"] < 10
    assert all(value.isfinite().all() for value in last.weights.values())


def test_accumulated_parts_add_up_to_the_whole_batch(tiny_recipe, tiny_data, tmp_path):
    base = replace(recipe.load(tiny_recipe), freeze_batchnorm=True)
    weights = []
    for accumulate in (1, 2):
        changed = replace(base, phases=(Phase(size=32, steps=2, batch=4, accumulate=accumulate),))
        # the dropout draws differ when a batch is divided
        trainer = train.Trainer(
            changed, tmp_path / str(accumulate), tiny_data, train.Process(torch.device("cpu")), 0, None
        )
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout2d):
                module.p = 0.0
        trainer.run(train.Report(tmp_path / str(accumulate), 2, active=True))
        weights.append(trainer.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(whole, tiny_recipe, tiny_data, tmp_path):
    compiled = run(tiny_recipe, tmp_path / "compiled", tiny_data, "--compile", "eager")
    assert list(compiled.weights) == list(whole.weights)
    for name, value in whole.weights.items():
        torch.testing.assert_close(value, compiled.weights[name], rtol=1e-2, atol=1e-3, msg=name)


def test_a_bar_is_drawn_on_a_terminal_and_nowhere_else(tmp_path, capsys, monkeypatch):
    for terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
        monkeypatch.setenv("TERM", "xterm")
        report = train.Report(tmp_path, 8, active=True, every=4)
        for step in range(1, 9):
            report.step(step, 1.0, Phase(32, 8, 2), 1e-3)
        report.close()
        drawn = capsys.readouterr().err
        assert "step 8/8  loss 1.0000" in drawn
        assert ("training" in drawn) == terminal


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tiny_data, tmp_path):
    text = (ROOT / "tests/bgtrain/conftest.py").read_text().split('TINY = """')[1].split('"""')[0]
    path = tmp_path / "tiny.toml"
    path.write_text("freeze_batchnorm = true\n" + text)
    command = ["-m", "bgtrain.train", str(path), "--data", str(tiny_data), "--workers", "0", "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    one = [sys.executable, *command, "--out", str(tmp_path / "one")]
    two = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29617"]
    subprocess.run(one, check=True, env=environment, cwd=tmp_path, capture_output=True, timeout=300)
    subprocess.run(
        [*two, *command, "--out", str(tmp_path / "two")],
        check=True,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        timeout=300,
    )
    losses = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()][-2]["loss"]
        for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.parametrize("patience", [1, 3])
def test_early_stop_waits_for_its_patience(patience, tiny_recipe, tiny_data, tmp_path):
    patient = replace(
        recipe.load(tiny_recipe), patience=patience, validate_every=2, phases=(Phase(32, 8, 2),)
    )
    trainer = train.Trainer(patient, tmp_path, tiny_data, train.Process(torch.device("cpu")), 0, None)
    trainer.best = 2.0  # no score can beat it
    trainer.run(train.Report(tmp_path, 8, active=True))
    assert trainer.step == 2 * patience


@pytest.mark.parametrize("schedule", ["cosine", "hold", "exponential"])
def test_schedules_warm_up_and_come_down(schedule):
    config = OptimizerConfig(schedule=schedule, lr=1.0, warmup_steps=10)
    rates = [train.learning_rate(step, 1000, step * 10, config) for step in range(1000)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0, rel=0.01)
    assert rates[-1] < (0.01 if schedule != "exponential" else 0.92)


def test_the_papers_schedule_loses_half_a_percent_an_epoch():
    config = OptimizerConfig(schedule="exponential", lr=1e-3, warmup_steps=0, decay=0.995, epoch_images=500)
    assert train.learning_rate(10, 100, 1500, config) == pytest.approx(1e-3 * 0.995**3)


@pytest.mark.parametrize("path", sorted((ROOT / "training/configs").glob("*.toml")), ids=lambda p: p.stem)
def test_every_committed_recipe_loads_and_opens_with_its_command(path):
    text = path.read_text()
    if "[[stages]]" in text:
        command, recipes = "make", [stage.recipe for stage in make.load(path).stages]
    elif "[[levers]]" in text:
        budget = equal.Budget(minutes=6, size=192, batch=16)
        command, recipes = "compare --levers", list(equal.read_levers(path, budget).values())
    else:
        command, recipes = "train", [recipe.load(path)]
    assert all(one is None or one.steps > 0 for one in recipes)
    assert text.startswith(f"# python -m bgtrain {command} training/configs/{path.name}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('network = "segnet"', "network='segnet': unknown; use one of"),
        ('network = "unet"', "phases is empty"),
        ('network = "unet"\nfoo = 1', r"unknown \['foo'\]"),
        ('network = "unet"\n[optimizer]\nname = "sgd"', "optimizer.name='sgd'"),
        ('network = "unet"\n[contract]\nsize_hw = [100, 100]', "not a positive multiple"),
        ("network = ", r"bad\.toml"),
    ],
)
def test_a_bad_recipe_is_refused_by_field_and_value(tmp_path, text, message):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(recipe.RecipeError, match=message):
        recipe.load(tmp_path / "bad.toml")


def test_a_checkpoint_comes_back_as_it_was_and_a_damaged_one_is_named(tiny_recipe, tiny_data, tmp_path):
    trainer = train.Trainer(
        recipe.load(tiny_recipe), tmp_path, tiny_data, train.Process(torch.device("cpu")), 0, None
    )
    saved = trainer.snapshot({"score": 0.5}, resumable=False)
    saved.published().save(tmp_path / "small.pt")
    loaded = checkpoint.load(tmp_path / "small.pt")
    assert (loaded.network, loaded.contract, loaded.metrics) == (saved.network, saved.contract, saved.metrics)
    photo = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model()(photo), saved.model()(photo), rtol=0.02, atol=0.02)
    (tmp_path / "cut.pt").write_bytes((tmp_path / "small.pt").read_bytes()[:5000])
    with pytest.raises(checkpoint.CheckpointError, match=r"cut\.pt is not a bgtrain checkpoint"):
        checkpoint.load(tmp_path / "cut.pt")
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint"):
        checkpoint.load(tmp_path / "absent.pt")
