import subprocess
import sys

import pytest

from bgbench import environment


def test_the_record_says_what_a_reader_needs_to_repeat_it():
    found = environment.record()
    assert {
        "device",
        "cpu",
        "gpus",
        "memory_gb",
        "system",
        "python",
        "packages",
        "commit",
        "load_1min_before",
    } <= set(found)
    assert found["cpu"]["cores"] >= 1
    assert found["packages"]["numpy"]
    assert found["device"] == found["device"].lower().replace(" ", "-")


def test_the_commit_is_marked_where_code_differs_but_not_where_a_result_or_page_does(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    for name in ("code.py", "docs/page.md", "benchmarks/results/a.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    user = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    for command in (("init", "-q"), ("add", "."), (*user, "commit", "-qm", "all")):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    for name in ("docs/page.md", "benchmarks/results/a.json"):
        (tmp_path / name).write_text("after")
    assert not environment.record()["commit"].endswith("+")
    (tmp_path / "code.py").write_text("after")
    assert environment.record()["commit"].endswith("+")


def test_the_device_s_name_is_fit_for_a_file():
    name = environment.device()
    assert name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_work_of_our_own_and_of_our_children_is_not_that_of_others():
    before = environment.own_s()
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert environment.own_s() - before >= 0.29


def test_the_share_of_others_is_what_is_busy_and_not_ours(monkeypatch):
    busy, own, now = iter([100.0, 130.0]), iter([10.0, 25.0]), iter([50.0, 60.0])
    monkeypatch.setattr(environment, "_busy_s", lambda: next(busy))
    monkeypatch.setattr(environment, "own_s", lambda: next(own))
    monkeypatch.setattr(environment.os, "times", lambda: type("T", (), {"elapsed": next(now)}))
    monkeypatch.setattr(environment.os, "cpu_count", lambda: 4)
    with environment.watching() as watch:
        assert watch.others is None
    assert watch.others == pytest.approx((30 - 15) / (10 * 4))


def test_a_machine_without_nvidia_smi_has_no_gpus(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.gpus() == []


def test_a_gpu_is_described_by_nvidia_smi(monkeypatch, tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        '#!/bin/sh\necho "NVIDIA H100 80GB HBM3, 550.54.15, 81559 MiB, 1980 MHz, 2619 MHz, 1755 MHz, 700.00 W"\n'
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (gpu,) = environment.gpus()
    assert gpu["name"] == "NVIDIA H100 80GB HBM3"
    assert gpu["power.limit"] == "700.00 W"
    assert environment.device() == "1x-nvidia-h100-80gb-hbm3"
