"""Alerts that fire when they should, and only then; a dashboard whose queries ask for numbers that exist."""

import json
import re
import shutil
import subprocess
import urllib.request

import pytest
import yaml

from bgclient.web.metrics import Metrics
from bgserver import canary
from bgserver.errors import CanaryFailed


def run(*command, cwd=None):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def rules(deploy):
    groups = yaml.safe_load((deploy / "helm/bgclient/files/rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def dashboard(deploy):
    return json.loads((deploy / "helm/bgclient/files/dashboard.json").read_text())


def queries(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_the_rules_pass_promtools_check_and_their_own_tests(promtool, deploy):
    for command in (
        ("check", "rules", "helm/bgclient/files/rules.yaml"),
        ("test", "rules", "monitoring/rules_test.yaml"),
    ):
        said = run(promtool, *command, cwd=deploy)
        assert said.returncode == 0, said.stdout + said.stderr


def test_prometheus_takes_the_configuration_of_the_compose_file(promtool, deploy, tmp_path):
    shutil.copy(deploy / "monitoring/prometheus.yaml", tmp_path / "prometheus.yml")
    shutil.copy(deploy / "helm/bgclient/files/rules.yaml", tmp_path)
    said = run(promtool, "check", "config", tmp_path / "prometheus.yml")
    assert said.returncode == 0, said.stdout + said.stderr


def test_every_alert_is_tested_and_has_a_chapter_in_the_runbook(rules, deploy, root):
    alerts = {rule["alert"]: rule for rule in rules if "alert" in rule}
    tests = yaml.safe_load((deploy / "monitoring/rules_test.yaml").read_text())["tests"]
    fired = {a["alertname"] for test in tests for a in test["alert_rule_test"] if a.get("exp_alerts")}
    assert fired == alerts.keys()
    chapters = re.findall(r"^#+ (\w+)$", (root / "docs/operations.md").read_text(), re.MULTILINE)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert name in chapters


def test_the_dashboards_queries_are_promql(promtool, dashboard, tmp_path):
    expressions = [
        query.replace("$instance", "a").replace("{{instance}}", "a") for query in queries(dashboard)
    ]
    groups = [{"name": "g", "rules": [{"record": f"r{i}", "expr": e} for i, e in enumerate(expressions)]}]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    said = run(promtool, "check", "rules", tmp_path / "rules.yaml")
    assert said.returncode == 0, said.stdout + said.stderr


def metric_names(text):
    without_labels = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", text)
    return set(re.findall(r"\b(?:nv_\w+|bgclient_\w+|bgclient:[\w:]+)", without_labels))


@pytest.mark.server
def test_alerts_and_dashboard_ask_only_for_numbers_that_somebody_counts(server, examples, rules, dashboard):
    for photo in (canary.photo(), next(iter(examples.values())).read_bytes()):
        canary.infer(server.http_url, "cutout", photo, "cutout", timeout_s=120.0)
    with pytest.raises(CanaryFailed, match="unknown_format"):
        canary.infer(server.http_url, "cutout", b"no photo", "cutout", timeout_s=120.0)
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        exposed = answer.read().decode() + Metrics().exposition().decode()
    counted = set(re.findall(r"^# TYPE (\S+)", exposed, re.MULTILINE))
    counted |= {f"{name}{end}" for name in counted for end in ("_bucket", "_sum", "_count")}
    counted |= {rule["record"] for rule in rules if "record" in rule}
    counted |= {
        "nv_gpu_utilization",
        "nv_gpu_memory_used_bytes",
        "nv_gpu_memory_total_bytes",
        "nv_inference_first_response_histogram_ms_bucket",
    }  # with a GPU only, and from Triton 26.01 on
    asked = metric_names(" ".join([rule["expr"] for rule in rules] + queries(dashboard)))
    assert len(asked) > 20
    assert asked <= counted


def test_dashboard_panels_lie_side_by_side_and_have_names(dashboard):
    taken = set()
    for panel in dashboard["panels"]:
        assert panel["title"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
