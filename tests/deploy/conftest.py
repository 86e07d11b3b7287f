"""The chart, rendered by Helm's own library."""

import shutil

import pytest
import yaml


@pytest.fixture(scope="session")
def deploy(root):
    """The folder ``deploy``."""
    return root / "deploy"


@pytest.fixture(scope="session")
def render(deploy):
    """Values to the Kubernetes objects of the chart, as a list."""
    helm = pytest.importorskip("helm_python", reason="needs helm-python-sdk (extra deploy)")

    def rendered(**values):
        with helm.Chart.load(str(deploy / "helm" / "bgclient")) as chart:
            files = chart.render(values, name="demo", namespace="prod")
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
