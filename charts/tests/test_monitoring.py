"""Alerts and dashboard."""

import json
import pathlib
import re
import subprocess

import pytest
import yaml
from chart import CHART, FULL, of_kind

ALERTS = CHART / "files" / "alerts.yaml"
CASES = CHART / "files" / "alerts.test.yaml"
DASHBOARD = CHART / "dashboards" / "tasklog.json"
# What one line of metrics.txt names; a star marks those of the orchestrator.
LISTED = [line.split() for line in (pathlib.Path(__file__).parent / "metrics.txt").read_text().splitlines() if line[0] != "#"]
KNOWN = {name for name, *_ in LISTED}
FOREIGN = {name for name, *star in LISTED if star}
METRIC = re.compile(r"\bmiroir_\w+")


def promtool(*arguments):
    ran = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def groups():
    return yaml.safe_load(ALERTS.read_text())["groups"]


def expressions():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def test_the_alerts_are_rules():
    promtool("check", "rules", str(ALERTS))


def test_each_alert_fires_and_stays_silent_as_its_cases_say():
    promtool("test", "rules", str(CASES))


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not():
    seen = {}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for each in case["alert_rule_test"]:
            seen.setdefault(each["alertname"], set()).add(bool(each["exp_alerts"]))
    assert seen == {rule["alert"]: {True, False} for group in groups() for rule in group["rules"]}


def test_alerts_on_metrics_of_the_orchestrator_are_a_group_of_their_own():
    for group in groups():
        for rule in group["rules"]:
            named = set(METRIC.findall(rule["expr"]))
            assert named <= KNOWN, rule["alert"]
            foreign = group["name"] == "miroir-orchestrator"
            assert named <= FOREIGN if foreign else not named & FOREIGN, rule["alert"]


def test_the_prometheus_rule_holds_the_alerts_of_the_file():
    def alerts(values):
        made = of_kind({**FULL, **values}, "PrometheusRule")["spec"]["groups"]
        return {rule["alert"]: rule for group in made for rule in group["rules"]}

    file = {rule["alert"]: rule for group in groups() for rule in group["rules"]}
    at_8_gb = alerts({"prometheusRule": {"enabled": True, "logBytes": 8_000_000_000}})
    for name, bound in (("TasklogLogLarge", ("8e9", "8000000000")), ("TasklogLogGrowsFull", ("10e9", "10000000000"))):
        file[name]["expr"] = file[name]["expr"].replace(*bound)
        assert file[name]["expr"].endswith(bound[1])
    assert at_8_gb == file
    # By default 80 % of the memory that the chart's own Redis has.
    assert alerts({})["TasklogLogLarge"]["expr"].endswith(f"> {2**30 * 4 // 5}")
    without = alerts({"prometheusRule": {"enabled": True, "orchestrator": False}})
    assert set(file) - set(without) == {rule["alert"] for group in groups() for rule in group["rules"] if group["name"] == "miroir-orchestrator"}


def test_every_expression_of_the_dashboard_is_one_and_names_known_metrics_of_the_service(tmp_path):
    made = expressions()
    assert len(made) > 20
    for expression in made:
        named = set(METRIC.findall(expression))
        assert named and named <= KNOWN - FOREIGN, expression
    # Grafana's variables stand for a duration and for a pattern.
    records = [
        {"record": f"panel:{at}", "expr": expression.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for at, expression in enumerate(made)
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
    promtool("check", "rules", str(file))


def test_panels_have_ids_and_places_of_their_own():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_in_the_cluster_is_the_file():
    made = of_kind(FULL, "ConfigMap", "-dashboard")
    assert json.loads(made["data"]["tasklog.json"]) == json.loads(DASHBOARD.read_text())
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize("file", [ALERTS, DASHBOARD], ids=["alerts", "dashboard"])
def test_every_known_metric_is_used_somewhere(file):
    # A list that only grows says nothing.
    used = set(METRIC.findall(ALERTS.read_text() + DASHBOARD.read_text()))
    assert KNOWN - FOREIGN <= used | {"miroir_http_request_seconds_bucket"}
    assert set(METRIC.findall(file.read_text())) <= KNOWN
