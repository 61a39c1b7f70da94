"""What the chart accepts and what it refuses, and for which reason."""

import itertools

import helm_python as helm
import pytest
import yaml
from chart import CHART, HELD, manifests, render, without_schema


def case(rule, text, path=None, *templates):
    """A rejected example: where the schema says it is wrong, and the rules the template names."""
    return rule, yaml.safe_load(text), path, templates or ((rule,) if path else ())


def deploy(replicas, backend, rest=""):
    return f"miroir: {{replicas: {replicas}}}\ntaskStore: {{backend: {backend}}}\n{rest}"


def scaled(replicas, backend, hpa):
    return f"miroir: {{replicas: {replicas}, hpa: {{{hpa}}}}}\ntaskStore: {{backend: {backend}}}"


def ui(page, backend):
    return f"{page}: {{rate_limit: {{backend: {backend}}}}}"


ACCEPTED = [
    case(0, deploy(2, "redis")),
    case(1, deploy(1, "sqlite")),
    case(2, scaled(2, "redis", "enabled: true")),
    case(2, scaled(1, "sqlite", "enabled: false")),
    case(2, scaled(2, "redis", "enabled: false")),
    case(3, deploy(3, "redis", ui("search_ui", "redis"))),
    case(3, deploy(1, "sqlite", ui("search_ui", "local"))),
    case(3, deploy(3, "redis", "search_ui: {}")),
    case(4, deploy(3, "redis", ui("admin_ui", "redis"))),
    case(4, deploy(1, "sqlite", ui("admin_ui", "local"))),
    case(5, "search_ui: {scoped_key_max_age_days: 60, scoped_key_rotate_before_expiry_days: 30}"),
    case(5, "search_ui: {scoped_key_max_age_days: 2, scoped_key_rotate_before_expiry_days: 1}"),
    case(5, "search_ui: {scoped_key_max_age_days: 400, scoped_key_rotate_before_expiry_days: 399}"),
    case(5, "search_ui: {scoped_key_max_age_days: 900, scoped_key_rotate_before_expiry_days: 899}"),
    case(6, scaled(4, "redis", "enabled: true, minReplicas: 2, maxReplicas: 24")),
    case(6, scaled(4, "redis", "enabled: true, minReplicas: 5, maxReplicas: 5")),
    case(6, "leader_election: {lease_ttl_s: 10, renew_interval_s: 3}"),
    case(6, "leader_election: {lease_ttl_s: 4, renew_interval_s: 3}"),
    case(6, deploy(1, "sqlite", "cdc: {buffer: {overflow: pvc}}")),
    case(6, deploy(2, "redis", "cdc: {buffer: {overflow: redis}}")),
    case(None, "{}"),
    # A null unsets what has no default: it follows the backend again.
    case(3, deploy(3, "redis", ui("search_ui", "null"))),
    case(4, deploy(1, "sqlite", ui("admin_ui", "null"))),
    case(6, deploy(1, "sqlite", "cdc: {buffer: {overflow: null}}")),
    case(6, deploy(2, "redis", "cdc: {buffer: {overflow: null}}")),
    # Copies of indexes are no pods.
    case(None, "miroir: {replicationFactor: 3, replicaGroups: 2, shards: 128}"),
    case(None, "global: {anything: true}"),
]

REJECTED = [
    case(0, deploy(1, "redis"), "/miroir/replicas"),
    case(1, deploy(2, "sqlite"), "/taskStore/backend"),
    case(2, scaled(1, "sqlite", "enabled: true"), "/miroir/replicas"),
    case(2, scaled(1, "sqlite", "enabled: true"), "/taskStore/backend"),
    case(2, scaled(2, "sqlite", "enabled: true"), "/taskStore/backend", 1, 2),
    case(3, deploy(3, "redis", ui("search_ui", "local")), "/search_ui/rate_limit/backend"),
    case(4, deploy(3, "redis", ui("admin_ui", "local")), "/admin_ui/rate_limit/backend"),
    case(5, "search_ui: {scoped_key_max_age_days: 60, scoped_key_rotate_before_expiry_days: 60}", "/search_ui/scoped_key_rotate_before_expiry_days"),
    case(5, "search_ui: {scoped_key_max_age_days: 60, scoped_key_rotate_before_expiry_days: 90}", "/search_ui/scoped_key_rotate_before_expiry_days"),
    case(5, "search_ui: {scoped_key_rotate_before_expiry_days: 0}", "/search_ui/scoped_key_rotate_before_expiry_days"),
    case(5, "search_ui: {scoped_key_max_age_days: 30}", "/search_ui/scoped_key_rotate_before_expiry_days"),
    case(5, "search_ui: {scoped_key_max_age_days: 400, scoped_key_rotate_before_expiry_days: 400}", "/search_ui/scoped_key_rotate_before_expiry_days"),
    case(6, scaled(4, "redis", "enabled: true, minReplicas: 1, maxReplicas: 24"), "/miroir/hpa/minReplicas"),
    case(6, scaled(4, "redis", "enabled: true, minReplicas: 2, maxReplicas: 1"), "/miroir/hpa/maxReplicas"),
    case(6, scaled(4, "redis", "enabled: true, minReplicas: 9, maxReplicas: 8"), "/miroir/hpa/maxReplicas"),
    case(6, "leader_election: {lease_ttl_s: 3, renew_interval_s: 3}", "/leader_election/renew_interval_s"),
    case(6, deploy(1, "sqlite", "cdc: {buffer: {overflow: redis}}"), "/cdc/buffer/overflow"),
    case(6, deploy(1, "sqlite", ui("search_ui", "redis")), "/search_ui/rate_limit/backend"),
    case(6, deploy(1, "sqlite", ui("admin_ui", "redis")), "/admin_ui/rate_limit/backend"),
]

# Beyond the tops of the ladders the schema cannot say it.
TEMPLATE_ONLY = [
    case(5, "search_ui: {scoped_key_max_age_days: 500, scoped_key_rotate_before_expiry_days: 500}"),
    case(6, scaled(2, "redis", "minReplicas: 300, maxReplicas: 200")),
    case(6, "leader_election: {lease_ttl_s: 600, renew_interval_s: 600}"),
]

MISTYPED = [
    ("{replicas: 2}", "replicas"),
    ("miroir: {replica: 2}", "replica"),
    ("miroir: {replicas: '2'}", "/miroir/replicas"),
    ("miroir: {hpa: {minreplicas: 2}}", "minreplicas"),
    ("miroir: {replicas: null}", "replicas"),
    ("taskStore: null", "taskStore"),
    ("taskStore: {backend: etcd}", "/taskStore/backend"),
    ("taskStore: {path: /tmp/x.db}", "/taskStore/path"),
    ("taskStore: {url: 'redis://user:secret@host:6379'}", "/taskStore/url"),
    ("redis: {appendfsync: 'no'}", "/redis/appendfsync"),
    ("redis: {persistence: {enabled: false}}", "enabled"),
    ("auth: {tokenKey: ''}", "/auth/tokenKey"),
    ("search_ui: {rate_limits: {}}", "rate_limits"),
    ("cdc: {buffer: {overflows: drop}}", "overflows"),
]


def name(example):
    return str(example[:2])


def errors(report):
    return [each for each in report["messages"] if each["severity"] >= 2] + report["errors"]


@pytest.fixture(scope="module")
def unchecked(tmp_path_factory):
    return without_schema(tmp_path_factory.mktemp("chart"))


@pytest.mark.parametrize("example", ACCEPTED, ids=name)
def test_an_accepted_example_passes_schema_lint_and_template(example):
    values = example[1]
    HELD.validate_schema(values)
    assert not errors(helm.lint(CHART, values, strict=True))
    assert manifests(values)


@pytest.mark.parametrize("example", REJECTED, ids=name)
def test_a_rejected_example_is_refused_by_the_schema_at_the_value_it_is_about(example):
    _, values, path, _ = example
    for attempt in (HELD.validate_schema, manifests):
        with pytest.raises(helm.HelmValuesError) as refused:
            attempt(values)
        assert f"at '{path}'" in str(refused.value)
    assert path in str(errors(helm.lint(CHART, values)))


@pytest.mark.parametrize("example", REJECTED, ids=name)
def test_a_rejected_example_is_refused_by_the_template_for_its_rule_and_no_other(example, unchecked):
    rule, values, _, named = example
    with pytest.raises(helm.HelmRenderError) as refused:
        render(values, unchecked)
    text = str(refused.value)
    told = {number for number in range(7) if f"deployment rule {number}:" in text}
    assert rule in told
    # No autoscaler over sqlite breaks rule 2 alone when there are two replicas of it.
    assert told == set(named), text


@pytest.mark.parametrize("example", TEMPLATE_ONLY, ids=name)
def test_what_the_schema_cannot_say_is_refused_by_the_template(example):
    rule, values, _, _ = example
    HELD.validate_schema(values)
    with pytest.raises(helm.HelmRenderError, match=f"deployment rule {rule}:"):
        manifests(values)


@pytest.mark.parametrize(("text", "named"), MISTYPED)
def test_a_mistyped_value_is_refused_by_name(text, named):
    with pytest.raises(helm.HelmValuesError) as refused:
        HELD.validate_schema(yaml.safe_load(text))
    assert named in str(refused.value)


def test_the_ladders_agree_with_a_comparison_around_every_rung():
    def passes(page, **values):
        try:
            HELD.validate_schema({page: values})
        except helm.HelmValuesError:
            return False
        return True

    for age in (2, 3, 59, 399, 400):
        for rotate in (age - 1, age, age + 1):
            made = passes("search_ui", scoped_key_max_age_days=age, scoped_key_rotate_before_expiry_days=rotate)
            assert made == (rotate < age), (age, rotate)
    for ttl in (2, 60, 120):
        for renew in (ttl - 1, ttl, ttl + 1):
            assert passes("leader_election", lease_ttl_s=ttl, renew_interval_s=renew) == (renew < ttl), (ttl, renew)
    for least in (2, 3, 99, 100):
        for most in (least - 1, least, least + 1):
            assert passes("miroir", hpa={"minReplicas": least, "maxReplicas": most}) == (least <= most), (least, most)


def test_schema_and_template_agree_with_the_rules_on_every_combination(unchecked):
    def refused(attempt):
        try:
            attempt()
        except (helm.HelmValuesError, helm.HelmRenderError):
            return True
        return False

    seen = {True: 0, False: 0}
    backends = ("sqlite", "redis")
    limits = (None, "redis", "local")
    for replicas, backend, scales, search, admin, overflow in itertools.product((1, 2), backends, (True, False), limits, limits, (None, "redis")):
        values = {
            "miroir": {"replicas": replicas, "hpa": {"enabled": scales}},
            "taskStore": {"backend": backend},
            "search_ui": {"rate_limit": {"backend": search}},
            "admin_ui": {"rate_limit": {"backend": admin}},
            "cdc": {"buffer": {"overflow": overflow}},
        }
        many, redis = replicas > 1, backend == "redis"
        broken = {
            "rules 0 and 1": many != redis,
            "rule 2": scales and not (many and redis),
            "rules 3 and 4": many and "local" in (search, admin),
            "rule 6": not redis and "redis" in (search, admin, overflow),
        }
        wanted = any(broken.values())
        assert refused(lambda: HELD.validate_schema(values)) == wanted, (values, broken)
        assert refused(lambda: render(values, unchecked)) == wanted, (values, broken)
        seen[wanted] += 1
    assert seen[True] > 90 and seen[False] > 10


def test_the_grace_period_covers_the_pause_and_the_shutdown():
    with pytest.raises(helm.HelmRenderError, match="terminationGracePeriodSeconds"):
        manifests({"terminationGracePeriodSeconds": 35})
