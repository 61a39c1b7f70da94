"""What the chart renders."""

import json
import os
import re
import subprocess

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from chart import CHART, FULL, HELD, REDIS, SQLITE, manifests, of_kind, pods, render

EVERY = {"sqlite": SQLITE, "redis": REDIS, "full": FULL, "sqlite with redis beside": {"redis": {"enabled": True}}}
KUBERNETES = "1.30"


def each():
    return pytest.mark.parametrize("values", EVERY.values(), ids=EVERY)


def bytes_of(amount):
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", amount).groups()
    return int(number) * (2**20 if unit == "Mi" else 2**30)


def cpus_of(amount):
    return int(amount[:-1]) / 1000 if amount.endswith("m") else float(amount)


def server(values):
    kind = "Deployment" if values.get("taskStore", {}).get("backend") == "redis" else "StatefulSet"
    return of_kind(values, kind)


def container(values):
    return server(values)["spec"]["template"]["spec"]["containers"][0]


def kinds(values):
    return sorted((each["kind"], each["metadata"]["name"].removeprefix("rel-tasklog")) for each in manifests(values))


def test_sqlite_is_one_stateful_pod_with_a_volume():
    assert kinds(SQLITE) == [
        ("ConfigMap", "-config"),
        ("NetworkPolicy", ""),
        ("Service", ""),
        ("Service", "-headless"),
        ("ServiceAccount", ""),
        ("StatefulSet", ""),
    ]
    spec = server(SQLITE)["spec"]
    assert spec["replicas"] == 1
    assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == ["data"]
    assert {"name": "data", "mountPath": "/data"} in container(SQLITE)["volumeMounts"]
    assert {"name": "TASKLOG_STORE", "value": "sqlite:/data/miroir-tasks.db"} in container(SQLITE)["env"]


def test_redis_is_a_deployment_with_a_budget_and_no_volume():
    assert ("Deployment", "") in kinds(REDIS) and ("PodDisruptionBudget", "") in kinds(REDIS)
    assert not [kind for kind, _ in kinds(REDIS) if kind == "StatefulSet"]
    assert server(REDIS)["spec"]["replicas"] == 2
    assert of_kind(REDIS, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    spread = server(REDIS)["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


def test_with_everything_on_every_kind_is_there():
    made = {kind for kind, _ in kinds(FULL)}
    assert made == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "PrometheusRule",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
        "StatefulSet",
    }


@each()
def test_the_manifests_are_what_kubernetes_accepts(values):
    for made in manifests(values):
        # Kinds of the Prometheus operator have no schema there.
        if not made["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(made, KUBERNETES, strict=True)


@each()
def test_pods_run_without_rights(values):
    for owner, template in pods(manifests(values)):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for part in spec["containers"]:
            assert part["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }, owner["metadata"]["name"]
            mounted = {mount["name"] for mount in part["volumeMounts"]}
            known = {volume["name"] for volume in spec["volumes"]}
            known |= {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
            assert mounted == known


@each()
def test_probes_ask_the_metrics_port(values):
    part = container(values)
    asked = {probe: part[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
    assert asked == {
        "startup": {"path": "/healthz", "port": "metrics"},
        "liveness": {"path": "/healthz", "port": "metrics"},
        "readiness": {"path": "/readyz", "port": "metrics"},
    }
    assert part["ports"] == [{"name": "http", "containerPort": 7711}, {"name": "metrics", "containerPort": 9090}]


@each()
def test_the_pod_stays_inside_its_envelope(values):
    limits = [part["resources"]["limits"] for part in server(values)["spec"]["template"]["spec"]["containers"]]
    assert sum(cpus_of(each["cpu"]) for each in limits) <= 2
    assert sum(bytes_of(each["memory"]) for each in limits) <= 3.5 * 2**30
    for _, template in pods(manifests(values)):
        for part in template["spec"]["containers"]:
            requests, limits = part["resources"]["requests"], part["resources"]["limits"]
            assert cpus_of(requests["cpu"]) <= cpus_of(limits["cpu"])
            assert bytes_of(requests["memory"]) <= bytes_of(limits["memory"])


@each()
def test_every_selector_matches_exactly_one_kind_of_pod(values):
    made = manifests(values)
    labels = {owner["metadata"]["name"]: template["metadata"]["labels"] for owner, template in pods(made)}

    def matched(selector):
        assert selector
        return [name for name, held in labels.items() if selector.items() <= held.items()]

    for owner, _ in pods(made):
        assert matched(owner["spec"]["selector"]["matchLabels"]) == [owner["metadata"]["name"]]
    for each in made:
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            selector = spec["selector"]
        elif each["kind"] == "NetworkPolicy":
            selector = spec["podSelector"]["matchLabels"]
        elif each["kind"] == "PodDisruptionBudget":
            selector = spec["selector"]["matchLabels"]
        else:
            continue
        assert len(matched(selector)) == 1, each["metadata"]["name"]


@each()
def test_a_stateful_set_names_a_headless_service_of_its_own_pods(values):
    made = manifests(values)
    services = {each["metadata"]["name"]: each["spec"] for each in made if each["kind"] == "Service"}
    for each in made:
        if each["kind"] == "StatefulSet":
            service = services[each["spec"]["serviceName"]]
            assert service["clusterIP"] == "None"
            assert service["selector"] == each["spec"]["selector"]["matchLabels"]


@each()
def test_the_service_monitor_selects_one_service_with_that_port(values):
    made = manifests({**values, "serviceMonitor": {"enabled": True}})
    monitor = next(each for each in made if each["kind"] == "ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    found = [each for each in made if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()]
    assert [each["metadata"]["name"] for each in found] == ["rel-tasklog-headless"]
    assert "metrics" in [port["name"] for port in found[0]["spec"]["ports"]]
    # The service's own port may be reached from outside; metrics need no token.
    public = next(each for each in made if each["kind"] == "Service" and each["metadata"]["name"] == "rel-tasklog")
    assert [port["name"] for port in public["spec"]["ports"]] == ["http"]


@each()
def test_no_secret_is_made_and_passwords_come_by_reference(values):
    made = manifests(values)
    assert not [each for each in made if each["kind"] == "Secret"]
    for _, template in pods(made):
        for part in template["spec"]["containers"]:
            for variable in part["env"]:
                if re.search("PASSWORD|TOKEN|SECRET", variable["name"]):
                    assert "value" not in variable and variable["valueFrom"]["secretKeyRef"]["name"]
            assert not re.search(r"--token=|requirepass|password", " ".join(part.get("args", []) + part.get("command", [])))


def test_where_redis_is_comes_from_the_values_or_from_a_secret():
    def store(values):
        env = container(values)["env"]
        return {each["name"]: each.get("value") or each["valueFrom"] for each in env if each["name"].startswith("TASKLOG_") and each["name"] != "TASKLOG_LOG"}

    secret = lambda name, key: {"secretKeyRef": {"name": name, "key": key}}
    assert store(REDIS) == {"TASKLOG_STORE": secret("rel-tasklog-store", "url")}
    assert store({**REDIS, "redis": {"enabled": True}}) == {
        "TASKLOG_STORE": "redis://rel-tasklog-redis:6379/0",
        "TASKLOG_REDIS_PASSWORD": secret("rel-tasklog-redis", "password"),
    }
    own = {"backend": "redis", "url": "rediss://user@redis.example:6380/2", "passwordSecret": {"name": "mine"}}
    assert store({**REDIS, "taskStore": own}) == {
        "TASKLOG_STORE": "rediss://user@redis.example:6380/2",
        "TASKLOG_REDIS_PASSWORD": secret("mine", "password"),
    }


def test_tokens_and_certificates_are_files_of_secrets():
    spec = server(FULL)["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    items = {each["path"]: each["key"] for each in volumes["tokens"]["secret"]["items"]}
    assert items == {"token": "token", "read-token": "read", "sensitive-token": "sensitive"}
    assert volumes["tokens"]["secret"]["secretName"] == "rel-tasklog-tokens"
    assert volumes["tls"]["secret"]["secretName"] == "rel-tasklog-tls"
    # A group reads them, nobody else.
    assert volumes["tokens"]["secret"]["defaultMode"] == volumes["tls"]["secret"]["defaultMode"] == 0o440
    for file in ("--token-file=/etc/tasklog/tokens/token", "--tls-cert=/etc/tasklog/tls/tls.crt", "--tls-key=/etc/tasklog/tls/tls.key"):
        assert file in container(FULL)["args"]


@each()
def test_the_program_is_given_the_values_that_its_rules_are_about(values):
    told = json.loads(of_kind(values, "ConfigMap", "-config")["data"]["values.json"])
    merged = HELD.merge_values(values)
    assert set(told) == {"miroir", "taskStore", "search_ui", "admin_ui", "cdc", "leader_election"}
    assert told["taskStore"] == {"backend": merged["taskStore"]["backend"], "path": merged["taskStore"]["path"]}
    for section in set(told) - {"taskStore"}:
        assert told[section] == merged[section]
    assert "--config=/etc/tasklog/config/values.json" in container(values)["args"]


def test_a_change_of_the_values_restarts_the_pods():
    def checksum(values):
        return server(values)["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert checksum(REDIS) != checksum({**REDIS, "cdc": {"enabled": False}})
    assert checksum(REDIS) == checksum({**REDIS, "dashboard": {"enabled": True}})


def test_unset_limits_and_overflow_stay_unset():
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert defaults["search_ui"]["rate_limit"] == defaults["admin_ui"]["rate_limit"] == defaults["cdc"]["buffer"] == {}


def test_redis_of_the_chart_keeps_everything():
    config = of_kind(FULL, "ConfigMap", "-redis")["data"]["redis.conf"].splitlines()
    for line in ("appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction", "maxmemory 1gb", "dir /data"):
        assert line in config
    spec = of_kind(FULL, "StatefulSet", "-redis")["spec"]
    assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == ["data"]
    # A rewrite of its file copies pages: it needs more than maxmemory.
    assert bytes_of(spec["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]) >= 1.5 * 2**30


def test_redis_of_the_chart_starts_with_its_password_and_its_settings(tmp_path):
    # Given the files of the chart, with a folder and a socket of the test's own, and an awkward password
    files = of_kind(FULL, "ConfigMap", "-redis")["data"]
    places = {"/etc/redis": str(tmp_path), "/run/redis": str(tmp_path / "run"), "dir /data": f"dir {tmp_path}"}
    socket = str(tmp_path / "redis.sock")
    places["port 6379"] = f"port 0\nunixsocket {socket}"
    (tmp_path / "run").mkdir()
    for name, text in files.items():
        for old, new in places.items():
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
    password = 'a "quoted" \\ pass word'

    def ask(*words, **more):
        ran = subprocess.run(["redis-cli", "-s", socket, *words], capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], **more})
        return ran.stdout.split("\n")

    # When it has started
    server = subprocess.Popen(
        ["sh", str(tmp_path / "start.sh")],
        env={"PATH": os.environ["PATH"], "REDIS_PASSWORD": password},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert any("eady to accept connections" in line for line in server.stdout), "it ended"
        # Then it is closed to others, and keeps everything
        assert "NOAUTH" in ask("PING")[0]
        told = {name: ask("CONFIG", "GET", name, REDISCLI_AUTH=password)[1] for name in ("appendonly", "appendfsync", "maxmemory-policy", "maxmemory")}
        assert told == {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "maxmemory": str(2**30)}
        assert (tmp_path / "run" / "redis.conf").stat().st_mode & 0o777 == 0o600
    finally:
        server.terminate()
        server.communicate()


def test_the_autoscaler_owns_the_number_of_pods_and_has_its_measures():
    assert "replicas" not in server(FULL)["spec"]
    spec = of_kind(FULL, "HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 24)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "rel-tasklog"}
    by_type = {}
    for metric in spec["metrics"]:
        part = metric[metric["type"].lower()]
        by_type[part.get("name") or part["metric"]["name"]] = (metric["type"], part["target"])
    assert by_type == {
        "cpu": ("Resource", {"type": "Utilization", "averageUtilization": 70}),
        "memory": ("Resource", {"type": "Utilization", "averageUtilization": 75}),
        "miroir_requests_in_flight": ("Pods", {"type": "AverageValue", "averageValue": "500"}),
        "miroir_background_queue_depth": ("External", {"type": "Value", "value": "10"}),
    }
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300
    assert spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 30


def test_only_the_server_reaches_redis_and_redis_reaches_nobody():
    spec = of_kind(FULL, "NetworkPolicy", "-redis")["spec"]
    (rule,) = spec["ingress"]
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "server"
    assert spec["egress"] == [] and "Egress" in spec["policyTypes"]


def test_the_network_policies_let_in_whom_the_values_name():
    orchestrator = {"podSelector": {"matchLabels": {"app": "miroir"}}}
    prometheus = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    values = {**FULL, "networkPolicy": {"from": [orchestrator], "metricsFrom": [prometheus], "redisFrom": [orchestrator]}}
    for made in (of_kind(values, "NetworkPolicy"), of_kind(values, "NetworkPolicy", "-redis")):
        kubernetes_validate.validate(made, KUBERNETES, strict=True)
    service, metrics = of_kind(values, "NetworkPolicy")["spec"]["ingress"]
    assert (service["from"], metrics["from"]) == ([orchestrator], [prometheus])
    (redis,) = of_kind(values, "NetworkPolicy", "-redis")["spec"]["ingress"]
    assert len(redis["from"]) == 2 and orchestrator in redis["from"]


@each()
def test_the_notes_name_every_secret_that_pods_wait_for(values):
    made, notes = render(values)
    text = json.dumps([template for _, template in pods(made)])
    named = set(re.findall(r'"secretName": "([^"]+)"', text)) | set(re.findall(r'"secretKeyRef": {"name": "([^"]+)"', text))
    named |= set(re.findall(r'"secretKeyRef": {"key": "[^"]+", "name": "([^"]+)"', text))
    assert named
    for name in named:
        assert name in notes


def test_names_of_a_long_release_fit_into_labels():
    files = HELD.render(FULL, name="r" * 53, namespace="search")
    files.pop("tasklog/templates/NOTES.txt")
    made = [each for text in files.values() for each in yaml.safe_load_all(text) if each]
    for each in made:
        # A label of a StatefulSet's pods is its name, a dash and ten characters.
        longest = 52 if each["kind"] == "StatefulSet" else 63
        assert len(each["metadata"]["name"]) <= longest
        if not each["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(each, KUBERNETES, strict=True)


def test_the_orchestrator_can_run_in_the_same_pod():
    beside = {
        "extraContainers": [{"name": "miroir", "image": "miroir:1"}],
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        "server": {"extraArgs": ["--tails-max=5"], "extraEnv": [{"name": "A", "value": "b"}]},
        "podLabels": {"team": "search"},
        "podAnnotations": {"note": "yes"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"podAffinity": {}},
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "pull"}],
        "image": {"digest": "sha256:" + "0" * 64},
        "serviceAccount": {"create": False, "name": "mine"},
        "persistence": {"storageClass": "fast"},
    }
    made = server(beside)
    kubernetes_validate.validate(made, KUBERNETES, strict=True)
    spec = made["spec"]["template"]["spec"]
    assert [part["name"] for part in spec["containers"]] == ["tasklog", "miroir"]
    assert spec["serviceAccountName"] == "mine" and spec["priorityClassName"] == "high"
    assert container(beside)["args"][-1] == "--tails-max=5" and container(beside)["env"][-1] == {"name": "A", "value": "b"}
    assert container(beside)["image"].endswith("@sha256:" + "0" * 64)
    assert made["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "fast"
    assert made["spec"]["template"]["metadata"]["labels"]["team"] == "search"


def test_the_chart_is_clean_and_says_for_which_kubernetes_it_is():
    report = helm.lint(CHART, strict=True, kube_version="v1.30.0")
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"] and not report["errors"]
    assert HELD.metadata["kubeVersion"] == ">=1.30.0-0"


def test_every_value_is_explained():
    """A value without a comment has one at its group, or is named after a field of Kubernetes."""
    known = yaml.safe_load((CHART / "values.yaml").read_text())
    page = (CHART / "README.md").read_text()
    missing = [name for name in known if f"`{name}" not in page]
    assert not missing
