"""The Helm chart: valid for Kubernetes, hardened, and of one piece."""

import dataclasses
import functools
import inspect
import json
import re

import pytest
import yaml

CRDS = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}
"""Kinds that Kubernetes itself does not know; every other unknown kind is a mistake."""

EVERYTHING = {
    "server": {
        "tlsSecret": "tls",
        "clientAuth": True,
        "adminKeySecret": "admin",
        "env": {"BGSERVER_ENGINE": "openvino"},
    },
    "web": {"apiKeysSecret": "keys", "env": {"BGCLIENT_WEB_FETCH_URLS": "true"}},
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "web", "annotations": {"a": "b"}},
    "autoscaling": {"cpuPercent": 80},
    "networkPolicy": {"webFrom": [{"podSelector": {}}], "egress": [{"to": [{"podSelector": {}}]}]},
    "nodeSelector": {"a": "b"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "podAnnotations": {"a": "b"},
    "imagePullSecrets": [{"name": "pull"}],
    "priorityClassName": "high",
}
NOTHING = {
    "web": {"enabled": False},
    "autoscaling": {"enabled": False},
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "monitoring": {"serviceMonitor": False, "prometheusRule": False, "dashboard": False},
    "plans": {"persistence": {"enabled": False}},
    "spread": False,
}
SHAPES = [{}, EVERYTHING, NOTHING]
VARIANTS = ["cpu", "onnx-gpu", "trt"]


def of_kind(things, kind, ending=""):
    (found,) = [t for t in things if t["kind"] == kind and t["metadata"]["name"].endswith(ending)]
    return found


def pod_of(things):
    return of_kind(things, "Deployment")["spec"]["template"]["spec"]


def containers_of(pod):
    return [*pod.get("initContainers", []), *pod["containers"]]


def environment_of(container):
    return {e["name"]: e.get("value") for e in container.get("env", [])}


@functools.cache  # the schemas are large, and most objects are the same in every shape of the chart
def schema_error(text, version):
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate (extra deploy)")
    thing = json.loads(text)
    try:
        validate.validate(thing, version, strict=True)
    except validate.ValidationError as error:
        return f"{thing['kind']}: {error.message}"
    except validate.SchemaNotFoundError:
        if thing["kind"] not in CRDS:
            return f"{thing['apiVersion']} {thing['kind']}: unknown to Kubernetes {version}"
    return None


def schema_errors(things, version):
    """What Kubernetes' own schemas say against the objects."""
    errors = [schema_error(json.dumps(thing, sort_keys=True), version) for thing in things]
    return [error for error in errors if error]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("values", SHAPES, ids=["defaults", "everything", "nothing"])
def test_every_object_is_what_kubernetes_expects(render, variant, values):
    assert schema_errors(render(variant=variant, **values), "1.37") == []


def test_the_oldest_kubernetes_that_the_chart_allows_takes_all_of_it(render, deploy):
    chart = yaml.safe_load((deploy / "helm" / "bgclient" / "Chart.yaml").read_text())
    oldest = re.fullmatch(r">=(\d+\.\d+)\.0-0", chart["kubeVersion"])[1]
    assert schema_errors(render(variant="trt", **EVERYTHING), oldest) == []


def test_the_check_sees_a_kind_that_is_gone_and_a_misspelt_field(render):
    scaler = of_kind(render(), "HorizontalPodAutoscaler")
    assert schema_errors([scaler | {"apiVersion": "autoscaling/v2beta2"}], "1.37") != []
    assert schema_errors([scaler | {"spec": scaler["spec"] | {"maxReplica": 3}}], "1.37") != []


def test_helm_finds_nothing_to_complain_of(helm):
    found = helm("lint")["found"]
    assert found["errors"] == []
    assert [m["error"] for m in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"variant": "tensorrt"},
        {"replica": 3},
        {"server": {"memory": "4Gi"}},
        {"image": {"repository": "bgclient", "digest": "latest"}},
        {"shm": {"size": "64"}},
        {"networkPolicy": {"tritonFrom": []}},
        {"web": {"trustedProxies": "*"}},
        {"autoscaling": {"queueMilliseconds": 0, "cpuPercent": 0}},
    ],
    ids=json.dumps,
)
def test_a_wrong_value_is_refused_instead_of_ignored(render, wrong):
    with pytest.raises(ValueError, match=r"schema|execution error"):
        render(**wrong)


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_gained_from_a_container_that_was_taken_over(render, variant):
    things = render(variant=variant)
    for pod in (pod_of(things), of_kind(things, "Pod")["spec"]):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] >= 1000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        for container in containers_of(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        assert not [v for v in pod.get("volumes", []) if "hostPath" in v]


def test_photos_pass_through_a_memory_volume_that_the_memory_limit_has_room_for(render):
    pod = pod_of(render())
    (shm,) = [v for v in pod["volumes"] if v["name"] == "shm"]
    server = pod["containers"][0]
    assert {"name": "shm", "mountPath": "/dev/shm"} in server["volumeMounts"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert int(server["resources"]["limits"]["memory"].removesuffix("Gi")) >= 2 * 1


@pytest.mark.parametrize(
    "values",
    [{}, {"preStopSeconds": 30, "web": {"drainSeconds": 200}, "server": {"drainSeconds": 60}}],
    ids=["defaults", "slow"],
)
def test_the_front_drains_before_the_server_and_both_before_the_kubelet_kills(render, deploy, values):
    pod = pod_of(render(**values))
    server, web = pod["containers"]
    command, pause, longest, port = server["lifecycle"]["preStop"]["exec"]["command"]
    assert (deploy / "image" / command).is_file()
    assert port == str(web["ports"][0]["containerPort"])
    assert web["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", pause]
    drain = {"web": int(environment_of(web)["BGCLIENT_WEB_DRAIN_S"])}
    drain["server"] = int(environment_of(server)["BGSERVER_DRAIN_S"])
    assert int(longest) > drain["web"]
    # 15: Server.stop waits so long on top
    assert pod["terminationGracePeriodSeconds"] >= int(pause) + int(longest) + drain["server"] + 15


def test_the_front_drains_as_long_as_a_request_may_take(render):
    from bgclient.web.settings import Settings

    defaults = Settings()
    longest_s = defaults.upload_s + defaults.wait_s + defaults.cut_s
    assert defaults.drain_s >= longest_s
    web = pod_of(render())["containers"][1]
    assert float(environment_of(web)["BGCLIENT_WEB_DRAIN_S"]) >= longest_s


def test_without_a_front_the_server_waits_for_none(render):
    pod = pod_of(render(web={"enabled": False}))
    (server,) = pod["containers"]
    assert server["lifecycle"]["preStop"]["exec"]["command"] == ["drained", "5", "0", "8080"]
    assert pod["terminationGracePeriodSeconds"] == 5 + 10 + 20


def test_liveness_is_a_photo_that_comes_back_and_readiness_is_cheap(render, deploy):
    server, web = pod_of(render())["containers"]
    for probe in ("startupProbe", "livenessProbe"):
        command = server[probe]["exec"]["command"]
        assert (deploy / "image" / command[0]).is_file()
        assert server[probe]["timeoutSeconds"] > int(command[1])
    assert server["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert web["readinessProbe"]["httpGet"]["path"] == "/healthz"
    assert web["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "web"}, (
        "a stuck loop takes connections"
    )
    assert server["startupProbe"]["periodSeconds"] * server["startupProbe"]["failureThreshold"] >= int(
        environment_of(server)["BGSERVER_START_TIMEOUT_S"]
    )


def test_selectors_and_ports_meet(render):
    things = render(ingress={"enabled": True})
    labels = of_kind(things, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    ports = {p["name"] for c in containers_of(pod_of(things)) for p in c["ports"]}
    services = [t for t in things if t["kind"] == "Service"]
    for service in services:
        assert service["spec"]["selector"].items() <= labels
        assert {p["targetPort"] for p in service["spec"]["ports"]} <= ports
    for kind in ("PodDisruptionBudget", "Deployment"):
        assert of_kind(things, kind)["spec"]["selector"]["matchLabels"].items() <= labels
    policy = of_kind(things, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels
    assert {p["port"] for rule in policy["ingress"] for p in rule["ports"]} <= ports
    monitor = of_kind(things, "ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    (scraped,) = [s for s in services if wanted <= s["metadata"]["labels"].items()]
    assert {e["port"] for e in monitor["endpoints"]} <= {p["name"] for p in scraped["spec"]["ports"]}
    backend = of_kind(things, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    (behind,) = [s for s in services if s["metadata"]["name"] == backend["name"]]
    assert backend["port"]["number"] in {p["port"] for p in behind["spec"]["ports"]}


def test_the_ingress_passes_every_route_of_the_front_but_metrics_and_liveness(render):
    web = pytest.importorskip("bgclient.web", reason="the extra 'web' is not installed")
    rules = of_kind(render(ingress={"enabled": True}), "Ingress")["spec"]["rules"][0]["http"]["paths"]
    passed = {
        route.path
        for route in web.create_app(web.Settings()).routes
        for rule in rules
        if route.path == rule["path"]
        or (rule["pathType"] == "Prefix" and route.path.startswith(rule["path"] + "/"))
    }
    assert {route.path for route in web.create_app(web.Settings()).routes} - passed == {"/metrics", "/livez"}


def test_a_proxy_is_believed_only_where_it_was_named(render, deploy):
    def trusted(**web):
        pod = of_kind(render(web=web, ingress={"enabled": True}), "Deployment")["spec"]["template"]["spec"]
        return next(
            environment_of(c).get("FORWARDED_ALLOW_IPS") for c in pod["containers"] if c["name"] == "web"
        )

    assert trusted() is None  # uvicorn's own default: this machine
    assert trusted(trustedProxies="10.244.0.0/16,fd00::/8") == "10.244.0.0/16,fd00::/8"
    compose = yaml.safe_load((deploy / "compose.yaml").read_text())
    for kind in ("cpu", "gpu"):
        named = compose["services"][f"web-{kind}"]["environment"]["FORWARDED_ALLOW_IPS"]
        assert named == "${FORWARDED_ALLOW_IPS:-127.0.0.1}"


def test_by_default_nobody_reaches_triton_but_who_was_let_in_and_the_pods_reach_nobody(render):
    things = render()
    policy = of_kind(things, "NetworkPolicy")["spec"]
    triton = [rule for rule in policy["ingress"] if {"port": "grpc", "protocol": "TCP"} in rule["ports"]]
    assert [rule["from"] for rule in triton] == [
        [{"podSelector": {"matchLabels": {"bgclient-access": "triton"}}}]
    ]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    assert of_kind(things, "Pod")["metadata"]["labels"]["bgclient-access"] == "triton"


def test_with_tls_no_plain_port_leaves_the_pod(render):
    things = render(server={"tlsSecret": "tls"})
    policy = of_kind(things, "NetworkPolicy")["spec"]
    assert "http" not in {p["port"] for rule in policy["ingress"] for p in rule["ports"]}
    server, web = pod_of(things)["containers"]
    assert environment_of(server)["BGSERVER_TLS_CERT"] == "/tls/tls.crt"
    assert {"name": "tls", "mountPath": "/tls", "readOnly": True} in server["volumeMounts"]
    assert environment_of(web)["BGCLIENT_WEB_URL"] == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ({}, "http://demo-bgclient-triton:8000"),
        ({"web": {"enabled": False}}, "http://demo-bgclient-triton:8000"),
        ({"server": {"tlsSecret": "tls"}}, "http://demo-bgclient/healthz"),
        (
            {
                "server": {"tlsSecret": "tls"},
                "networkPolicy": {"webFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
            },
            "http://demo-bgclient/healthz",
        ),
        ({"server": {"tlsSecret": "tls"}, "web": {"enabled": False}}, '("demo-bgclient-triton", 8001)'),
    ],
    ids=["plain", "plain, no front", "TLS", "TLS, callers named", "TLS, no front"],
)
def test_helm_test_asks_at_a_port_that_is_open_to_it(render, values, asked):
    things = render(**values)
    pod = of_kind(things, "Pod")
    command = " ".join(pod["spec"]["containers"][0]["command"])
    assert asked in command
    port = "web" if "healthz" in command else "grpc" if "8001" in command else "http"
    service = asked.split("/")[2].split(":")[0] if "//" in asked else "demo-bgclient-triton"
    (behind,) = [t for t in things if t["kind"] == "Service" and t["metadata"]["name"] == service]
    assert port in {p["targetPort"] for p in behind["spec"]["ports"]}
    labels = pod["metadata"]["labels"].items()
    rules = [
        rule.get("from", [{"podSelector": {}}])
        for rule in of_kind(things, "NetworkPolicy")["spec"]["ingress"]
        if port in {p["port"] for p in rule["ports"]}
    ]
    selectors = [peer["podSelector"] for peers in rules for peer in peers if peer.keys() == {"podSelector"}]
    assert any(selector.get("matchLabels", {}).items() <= labels for selector in selectors)


def test_keys_come_from_secrets_never_from_values(render):
    things = render(server={"adminKeySecret": "a"}, web={"apiKeysSecret": "k"})
    server, web = pod_of(things)["containers"]
    secrets = {
        e["name"]: e["valueFrom"]["secretKeyRef"] for c in (server, web) for e in c["env"] if "valueFrom" in e
    }
    assert secrets == {
        "BGSERVER_ADMIN_KEY": {"name": "a", "key": "admin-key"},
        "BGCLIENT_WEB_API_KEYS": {"name": "k", "key": "api-keys"},
    }
    assert not [t for t in things if t["kind"] == "Secret"]


def test_the_autoscaler_goes_by_the_time_that_photos_wait_at_the_front_and_in_the_server(render, deploy):
    things = render()
    scaler = of_kind(things, "HorizontalPodAutoscaler")
    assert scaler["apiVersion"] == "autoscaling/v2"
    assert scaler["spec"]["scaleTargetRef"]["name"] == of_kind(things, "Deployment")["metadata"]["name"]
    (metric,) = scaler["spec"]["metrics"]
    adapter = yaml.safe_load((deploy / "monitoring" / "prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert rule["seriesQuery"].startswith(rule["name"]["matches"] + "{")
    groups = of_kind(things, "PrometheusRule")["spec"]["groups"]
    records = {r.get("record"): r["expr"] for g in groups for r in g["rules"]}
    assert "(queue|gate)" in records[rule["name"]["matches"]]
    assert "bgclient_web_wait_seconds" in records["bgclient:gate_milliseconds:mean1m"]
    assert "nv_inference_queue_duration_us" in records["bgclient:queue_milliseconds:mean1m"]
    assert "replicas" not in of_kind(things, "Deployment")["spec"], "a rollout must not undo the autoscaler"


def test_keda_asks_prometheus_for_the_same_time_with_the_same_limits(render):
    keda = {"enabled": True, "prometheus": "http://prometheus:9090"}
    plain = of_kind(render(), "HorizontalPodAutoscaler")["spec"]
    things = render(autoscaling={"keda": keda, "cpuPercent": 80})
    assert not [thing for thing in things if thing["kind"] == "HorizontalPodAutoscaler"], "two would fight"
    spec = of_kind(things, "ScaledObject")["spec"]
    assert spec["scaleTargetRef"]["name"] == of_kind(things, "Deployment")["metadata"]["name"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (plain["minReplicas"], plain["maxReplicas"])
    assert spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == plain["behavior"]
    waiting, processor = spec["triggers"]
    assert waiting["metadata"]["serverAddress"] == keda["prometheus"]
    groups = of_kind(things, "PrometheusRule")["spec"]["groups"]
    records = {r["record"] for g in groups for r in g["rules"] if "record" in r}
    assert re.search(r"bgclient:\w+:\w+", waiting["metadata"]["query"])[0] in records
    assert 'namespace="prod"' in waiting["metadata"]["query"]
    threshold = plain["metrics"][0]["pods"]["target"]["averageValue"]
    assert waiting["metadata"]["threshold"] == threshold
    assert processor == {
        "type": "cpu",
        "metricType": "Utilization",
        "metadata": {"value": "80", "containerName": "server"},
    }


def test_the_server_is_told_the_collector_of_traces(render):
    url = "http://collector.monitoring:4318/v1/traces"
    (server, _) = pod_of(render(server={"traceUrl": url}))["containers"]
    assert environment_of(server)["BGSERVER_TRACE_URL"] == url
    assert "BGSERVER_TRACE_URL" not in environment_of(pod_of(render())["containers"][0])
    with pytest.raises(ValueError, match="traceUrl"):
        render(server={"traceUrl": "collector:4318"})


def test_gpus_are_asked_for_by_the_gpu_variants_only(render):
    for variant, gpus in {"cpu": None, "onnx-gpu": 1, "trt": 1}.items():
        pod = pod_of(render(variant=variant))
        assert pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") == gpus
        assert "nvidia.com/gpu" not in pod["containers"][1]["resources"]["limits"]
        image = pod["containers"][0]["image"]
        assert image.endswith("-cpu" if variant == "cpu" else "-gpu")


def test_a_plan_is_built_before_the_server_starts_and_is_kept(render):
    things = render(variant="trt")
    pod = pod_of(things)
    (plan,) = pod["initContainers"]
    assert plan["args"] == ["plan"]
    assert plan["resources"]["limits"]["nvidia.com/gpu"] == 1
    for container in (plan, pod["containers"][0]):
        assert {"name": "plans", "mountPath": "/plans"} in container["volumeMounts"]
    claim = of_kind(things, "PersistentVolumeClaim")
    (volume,) = [v for v in pod["volumes"] if v["name"] == "plans"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for variant in ("cpu", "onnx-gpu"):
        assert "initContainers" not in pod_of(render(variant=variant))


def test_a_digest_wins_over_the_tag(render):
    digest = "sha256:" + "0" * 64
    image = {"repository": "r.example/bgclient", "tag": "x", "digest": digest}
    assert pod_of(render(image=image))["containers"][0]["image"] == f"r.example/bgclient@{digest}"


def test_every_setting_of_the_pods_is_one_that_the_software_reads(render, deploy):
    from bgclient.web.settings import Settings
    from bgserver.options import variable
    from bgserver.settings import Settings as ServerSettings

    server = {variable(field.name) for field in dataclasses.fields(ServerSettings)}
    server |= set(re.findall(r"BGSERVER_\w+", (deploy / "image/entrypoint").read_text()))
    web = {f"BGCLIENT_WEB_{name.upper()}" for name in inspect.signature(Settings).parameters}
    for variant in VARIANTS:
        for container in containers_of(pod_of(render(variant=variant, **EVERYTHING))):
            assert environment_of(container).keys() <= (web if container["name"] == "web" else server)


def test_kserves_pod_is_a_valid_and_hardened_pod(deploy):
    service = yaml.safe_load((deploy / "kserve" / "inferenceservice.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    pod = {k: v for k, v in service["spec"]["predictor"].items() if k != "minReplicas"}
    assert (
        schema_errors([{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod}], "1.37")
        == []
    )
    (container,) = pod["containers"]
    assert container["name"] == "kserve-container"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {v["name"]: v["emptyDir"].get("medium") for v in pod["volumes"]}["shm"] == "Memory"
