"""The chart, rendered by Helm's engine."""

import pathlib
import shutil

import helm_python as helm
import yaml

ROOT = pathlib.Path(__file__).parent.parent.parent
CHART = ROOT / "charts" / "tasklog"
HELD = helm.Chart.load(CHART)

SQLITE = {}
REDIS = {"miroir": {"replicas": 2}, "taskStore": {"backend": "redis"}}
# Everything that can be turned on.
FULL = {
    "miroir": {"replicas": 3, "hpa": {"enabled": True}},
    "taskStore": {"backend": "redis"},
    "redis": {"enabled": True},
    "tls": {"enabled": True},
    "auth": {"readTokenKey": "read", "sensitiveTokenKey": "sensitive"},
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
}


def render(values, chart=HELD):
    """The manifests, and the notes."""
    files = chart.render(values, name="rel", namespace="search")
    notes = files.pop("tasklog/templates/NOTES.txt")
    made = [each for text in files.values() for each in yaml.safe_load_all(text) if each]
    return made, notes


def manifests(values):
    return render(values)[0]


def of_kind(values, kind, suffix=""):
    """The one manifest of that kind and name."""
    found = [each for each in manifests(values) if each["kind"] == kind and each["metadata"]["name"] == f"rel-tasklog{suffix}"]
    assert len(found) == 1, f"{kind} rel-tasklog{suffix}: {found}"
    return found[0]


def pods(made):
    """The specification of every pod, with its labels."""
    for each in made:
        if each["kind"] in ("Deployment", "StatefulSet"):
            yield each, each["spec"]["template"]


def without_schema(folder):
    """The chart as it is when helm is told to skip the schema."""
    copy = pathlib.Path(folder) / "tasklog"
    shutil.copytree(CHART, copy)
    (copy / "values.schema.json").unlink()
    return helm.Chart.load(copy)
