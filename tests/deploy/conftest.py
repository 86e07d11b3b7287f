"""The chart, rendered by Helm's own library."""

import importlib.util
import json
import shutil
import subprocess
import sys

import pytest
import yaml

HELM = """
import json, sys
import helm_python
task = json.load(sys.stdin)
try:
    if task["do"] == "lint":
        answer = {"found": helm_python.lint(task["chart"])}
    else:
        with helm_python.Chart.load(task["chart"]) as chart:
            answer = {"files": chart.render(task["values"], name="demo", namespace="prod")}
except helm_python.HelmError as error:
    answer = {"refused": str(error)}
print(json.dumps(answer))
"""


@pytest.fixture(scope="session")
def deploy(root):
    """The folder ``deploy``."""
    return root / "deploy"


@pytest.fixture(scope="session")
def helm(deploy):
    """Ask Helm's library about the chart; ``ValueError`` where it refuses the values.

    In a process of its own: its Go runtime now and then aborts a process that has many threads and signal handlers.
    """
    if importlib.util.find_spec("helm_python") is None:
        pytest.skip("needs helm-python-sdk (extra deploy)")

    def ask(do, values=None):
        task = json.dumps({"do": do, "chart": str(deploy / "helm" / "bgclient"), "values": values})
        command = [sys.executable, "-c", HELM]
        for _ in range(3):
            done = subprocess.run(command, input=task, capture_output=True, text=True, timeout=120)
            if done.returncode == 0:
                break
        assert done.returncode == 0, done.stderr[-2000:]
        answer = json.loads(done.stdout)
        if "refused" in answer:
            raise ValueError(answer["refused"])
        return answer

    return ask


@pytest.fixture(scope="session")
def render(helm):
    """Values to the Kubernetes objects of the chart, as a list."""

    def rendered(**values):
        files = helm("render", values)["files"]
        texts = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
        return [thing for text in texts for thing in yaml.safe_load_all(text) if thing]

    return rendered


@pytest.fixture(scope="session")
def promtool():
    """Path of promtool, which no Python registry carries."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("no promtool on PATH (Debian: apt-get install prometheus)")
    return path
