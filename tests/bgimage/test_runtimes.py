"""Nothing leaves the machine because a network runs: no file, no look-up, no connection."""

import os
import shutil
import subprocess
import sys

import pytest

RUN = """
import os, sys, time
import numpy as np
from bgimage import runtimes
if {engine!r} == "onnxruntime":
    session = runtimes.onnxruntime().InferenceSession({model!r})
    session.run(None, {{i.name: np.zeros([1, *i.shape[1:]], "u1") for i in session.get_inputs()}})
else:
    runtimes.openvino().Core().compile_model({model!r}, "CPU")
time.sleep(2.0)  # for what would be sent later
"""


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_network_that_is_run_writes_nothing_into_the_home_and_opens_no_connection(root, tmp_path, engine):
    pytest.importorskip(engine)
    strace = shutil.which("strace")
    script = RUN.format(engine=engine, model=str(root / "model_repository/tiramisu_onnx/1/model.onnx"))
    home = tmp_path / "home"
    home.mkdir()
    calls = tmp_path / "calls"
    tracer = [strace, "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(calls)] if strace else []
    done = subprocess.run(
        [*tracer, sys.executable, "-c", script],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("XDG_")},
            "HOME": str(home),
            "PYTHONPATH": str(root / "client"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(home.rglob("*")) == []
    if strace is None:
        pytest.skip("nothing was written; connections are seen with strace, which is not installed")
    assert [line for line in calls.read_text().splitlines() if "AF_INET" in line] == []
