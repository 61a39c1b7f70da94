"""The chart and the program: what the chart says is what the program takes, refuses and tells."""

import json
import os
import pathlib
import re
import subprocess
import urllib.error
import urllib.request

import helm_python as helm
import pytest
import test_rules
from chart import FULL, HELD, ROOT, SQLITE, of_kind, render, without_schema

PROGRAM = os.environ.get("TASKLOG_PROGRAM", ROOT / "target" / "debug" / "tasklog")
METRICS = pathlib.Path(__file__).parent / "metrics.txt"


class Served:
    """The container of the chart as a process, with its files in a folder of the test and ports that are free."""

    def __init__(self, values, folder, config=None):
        kind = "StatefulSet" if values == SQLITE else "Deployment"
        container = of_kind(values, kind)["spec"]["template"]["spec"]["containers"][0]
        for part in ("config", "tokens", "tls"):
            (folder / part).mkdir()
        (folder / "config" / "values.json").write_text(config or of_kind(values, "ConfigMap", "-config")["data"]["values.json"])
        for name in ("token", "read-token", "sensitive-token"):
            (folder / "tokens" / name).write_text(f"{name}-{'x' * 40}\n")
        if values.get("tls"):
            certify(folder / "tls")
        places = {"/etc/tasklog": str(folder), "0.0.0.0:7711": "127.0.0.1:0", "0.0.0.0:9090": "127.0.0.1:0"}
        arguments = []
        for text in container["args"]:
            for old, new in places.items():
                text = text.replace(old, new)
            arguments.append(text)
        self.process = subprocess.Popen(
            [PROGRAM, *arguments],
            env={"PATH": os.environ["PATH"], "TASKLOG_STORE": f"sqlite:{folder}/tasklog.db", "POD_NAME": "rel-tasklog-0", "TASKLOG_LOG": "info"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self):
        # Until it serves; if it ends first, what it said is the message.
        said = []
        self.url = None
        for line in self.process.stdout:
            said.append(line)
            told = json.loads(line) if line.startswith("{") else {}
            if told.get("message") == "listening for metrics":
                self.url = told["url"]
            if told.get("message") == "serving":
                return self
        raise AssertionError("".join(said))

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate()

    def get(self, path):
        try:
            with urllib.request.urlopen(self.url + path) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def certify(folder):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        + ["-subj", "/CN=localhost", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize("values", [SQLITE, FULL], ids=["sqlite", "full"])
def test_the_program_starts_with_the_arguments_and_the_files_of_the_chart_and_answers_the_probes(values, tmp_path):
    with Served(values, tmp_path) as served:
        assert [served.get(path)[0] for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]
        # The probes' port answers nothing else.
        assert served.get("/v1/info")[0] == 404
        served.process.terminate()
        assert served.process.wait() == 0


@pytest.mark.parametrize("example", test_rules.REJECTED + test_rules.TEMPLATE_ONLY, ids=test_rules.name)
def test_the_program_refuses_what_the_template_refuses_in_the_same_words(example, tmp_path, tmp_path_factory):
    values = example[1]
    with pytest.raises(helm.HelmRenderError) as refused:
        render(values, without_schema(tmp_path_factory.mktemp("chart")))
    template = set(re.search(r"deployment rule .*", str(refused.value)).group().split("; "))
    served = Served(SQLITE, tmp_path, json.dumps(HELD.merge_values(values)))
    said = served.process.communicate()[0]
    assert served.process.returncode == 2, said
    assert set(re.findall(r"deployment rule \d: .*", said)) == template


def test_alerts_and_dashboard_name_metrics_that_the_service_documents():
    page = (ROOT / "docs" / "metrics.md").read_text()
    ours, foreign = page.split("## Not ours")
    documented = set(re.findall(r"`(miroir_\w+)`", ours))
    suffix = re.compile(r"_(bucket|sum|count)$")
    for line in METRICS.read_text().splitlines():
        if not line.startswith("#"):
            name, *star = line.split()
            if star:
                assert f"`{name.removeprefix('miroir_')}`" in foreign, name
            else:
                assert name in documented or suffix.sub("", name) in documented, name


def test_the_service_tells_every_metric_that_needs_no_name(tmp_path):
    with Served(SQLITE, tmp_path) as served:
        served.get("/readyz")
        told = set(re.findall(r"^(miroir_\w+)", served.get("/metrics")[1], re.MULTILINE))
    listed = {line.split()[0] for line in METRICS.read_text().splitlines() if line[0] != "#" and not line.endswith("*")}
    # A label that users choose has no series before they do; a store that is no replica has no follower.
    follower = {name for name in listed if name.startswith("miroir_follower_")}
    assert listed - told == {"miroir_alias_flips_total", "miroir_background_queue_depth"} | follower
