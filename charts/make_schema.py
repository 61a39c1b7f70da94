#!/usr/bin/env python3
"""Makes tasklog/values.schema.json. With --check: says whether the committed file is what this makes.

JSON Schema draft-07 cannot compare two values. Comparisons are ladders: one rung for each number that one side can be. The
numbers are integers, so a rung for exactly this number says the same as one for everything below, and is the only one that
complains. Beyond the top of a ladder templates/rules.yaml compares.
"""

import json
import pathlib
import sys

FILE = pathlib.Path(__file__).parent / "tasklog" / "values.schema.json"

# The tops of the ladders.
SCOPED_KEY_DAYS = 400
LEASE_S = 120
HPA_REPLICAS = 100

TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
MAP = {"type": "object"}
LIST = {"type": "array"}
LABELS = {"type": "object", "additionalProperties": TEXT}
AMOUNT = {"type": "integer", "minimum": 0}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}


def at_least(minimum):
    return {"type": "integer", "minimum": minimum}


def one_of(*values):
    return {"enum": list(values)}


def one_of_or_unset(*values):
    """Helm keeps a null that stands for a value which the chart does not set."""
    return one_of(*values, None)


def closed(required=(), rules=(), **properties):
    made = {"type": "object", "additionalProperties": False, "properties": properties}
    if required:
        made["required"] = list(required)
    if rules:
        made["allOf"] = list(rules)
    return made


def at(path, schema):
    """The schema for the value at the path; the value must be there."""
    for name in reversed(path.split(".")):
        schema = {"required": [name], "properties": {name: schema}}
    return schema


def then_at(path, schema):
    """The schema for the value at the path, if it is there."""
    for name in reversed(path.split(".")):
        schema = {"properties": {name: schema}}
    return schema


def rule(number, says, condition, consequence):
    return {"title": f"rule {number}: {says}", "if": condition, "then": consequence}


def ladder(number, says, rungs):
    """A rule within one object, both values of which must be there. A rung: a condition on one, the consequence for the other."""
    rung = lambda condition, consequence: {"if": {"properties": condition}, "then": {"properties": consequence}}
    return {"title": f"rule {number}: {says}", "allOf": [rung(*each) for each in rungs]}


def scoped_keys():
    return ladder(
        5,
        "a scoped key is rotated before it expires",
        (
            ({"scoped_key_max_age_days": {"const": k}}, {"scoped_key_rotate_before_expiry_days": {"maximum": k - 1}})
            for k in range(2, SCOPED_KEY_DAYS + 1)
        ),
    )


def autoscaler():
    return ladder(
        6,
        "minReplicas <= maxReplicas",
        (({"minReplicas": {"const": k}}, {"maxReplicas": {"minimum": k}}) for k in range(3, HPA_REPLICAS + 1)),
    )


def leases():
    return ladder(
        6,
        "a lease is longer than the interval of its renewal",
        (({"lease_ttl_s": {"const": k}}, {"renew_interval_s": {"maximum": k - 1}}) for k in range(1, LEASE_S + 1)),
    )


REDIS = at("taskStore.backend", {"const": "redis"})
SQLITE = at("taskStore.backend", {"const": "sqlite"})
MANY = at("miroir.replicas", {"minimum": 2})
LIMITS = {3: "search_ui.rate_limit.backend", 4: "admin_ui.rate_limit.backend"}


def rules():
    made = [
        rule(0, "backend redis requires more than one replica", REDIS, MANY),
        rule(1, "more than one replica requires backend redis", MANY, REDIS),
        rule(
            2,
            "the autoscaler requires at least 2 replicas and backend redis",
            at("miroir.hpa.enabled", {"const": True}),
            {"allOf": [MANY, REDIS]},
        ),
    ]
    for number, path in LIMITS.items():
        made.append(rule(number, f"more than one replica requires {path} redis or unset", MANY, then_at(path, one_of_or_unset("redis"))))
    made.append(rule(6, "sqlite has no overflow in redis", SQLITE, then_at("cdc.buffer.overflow", one_of_or_unset("pvc", "drop"))))
    for path in LIMITS.values():
        made.append(rule(6, f"sqlite has no {path} redis", SQLITE, then_at(path, one_of_or_unset("local"))))
    return made


def image(**more):
    return closed(["repository"], repository={"type": "string", "minLength": 1}, tag=TEXT, pullPolicy=one_of("Always", "IfNotPresent", "Never"), **more)


def quantities():
    amount = {"type": ["string", "number"]}
    of = {"type": "object", "additionalProperties": amount}
    return closed(["requests", "limits"], requests=of, limits={**of, "required": ["cpu", "memory"]})


def limit(**more):
    return closed(per_ip=TEXT, backend=one_of_or_unset("redis", "local"), **more)


def properties():
    secret = closed(["name", "key"], name=TEXT, key={"type": "string", "minLength": 1})
    return {
        "global": MAP,
        "nameOverride": TEXT,
        "fullnameOverride": TEXT,
        "image": image(digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}),
        "imagePullSecrets": LIST,
        "miroir": closed(
            ["replicas", "hpa"],
            replicas=at_least(1),
            shards=at_least(1),
            replicationFactor=at_least(1),
            replicaGroups=at_least(1),
            hpa=closed(
                ["enabled", "minReplicas", "maxReplicas"],
                [autoscaler()],
                enabled=FLAG,
                minReplicas=at_least(2),
                maxReplicas=at_least(2),
                cpu=AMOUNT,
                memory=AMOUNT,
                requestsInFlight=AMOUNT,
                backgroundQueueDepth=AMOUNT,
                scaleDownWindowSeconds=AMOUNT,
                scaleUpWindowSeconds=AMOUNT,
            ),
        ),
        "taskStore": closed(
            ["backend", "path", "url", "urlSecret", "passwordSecret"],
            backend=one_of("sqlite", "redis"),
            path={"type": "string", "pattern": "^/data/[^/?]+$"},
            # A URL with a password would stand in the release and in the pod's specification.
            url={"type": "string", "pattern": "^(rediss?://([^:/@]+@)?[^@]+)?$"},
            urlSecret=secret,
            passwordSecret=secret,
        ),
        "persistence": closed(["size", "accessModes"], size=TEXT, storageClass=TEXT, accessModes={"type": "array", "items": TEXT, "minItems": 1}),
        "auth": closed(
            ["tokenKey"], existingSecret=TEXT, tokenKey={"type": "string", "minLength": 1}, readTokenKey=TEXT, sensitiveTokenKey=TEXT
        ),
        "tls": closed(["enabled"], enabled=FLAG, existingSecret=TEXT),
        "server": closed(
            logFormat=one_of("text", "json"),
            log=TEXT,
            shutdownMs=at_least(1),
            waitForStoreSeconds=at_least(0),
            extraArgs={"type": "array", "items": TEXT},
            extraEnv=LIST,
        ),
        "terminationGracePeriodSeconds": at_least(1),
        "preStopSleepSeconds": at_least(1),
        "resources": quantities(),
        "service": closed(["port"], type=one_of("ClusterIP", "NodePort", "LoadBalancer"), port=PORT, annotations=LABELS),
        "metrics": closed(["port"], port=PORT),
        "serviceAccount": closed(create=FLAG, name=TEXT, annotations=LABELS),
        "podDisruptionBudget": closed(enabled=FLAG, maxUnavailable={"type": ["integer", "string"]}),
        "networkPolicy": closed(
            enabled=FLAG,
            **{"from": LIST},
            metricsFrom=LIST,
            redisFrom=LIST,
            redisPorts={"type": "array", "items": PORT},
            extraEgress=LIST,
        ),
        "serviceMonitor": closed(enabled=FLAG, interval=TEXT, labels=LABELS),
        "prometheusRule": closed(enabled=FLAG, labels=LABELS, logBytes=AMOUNT, orchestrator=FLAG),
        "dashboard": closed(enabled=FLAG, labels=LABELS),
        "podAnnotations": LABELS,
        "podLabels": LABELS,
        "nodeSelector": LABELS,
        "tolerations": LIST,
        "affinity": MAP,
        "priorityClassName": TEXT,
        "topologySpreadConstraints": LIST,
        "extraContainers": LIST,
        "extraVolumes": LIST,
        "extraVolumeMounts": LIST,
        "redis": closed(
            ["enabled", "maxmemory", "appendfsync", "persistence"],
            enabled=FLAG,
            image=image(),
            existingSecret=TEXT,
            passwordKey={"type": "string", "minLength": 1},
            maxmemory={"type": "string", "pattern": "^[1-9][0-9]*(kb|mb|gb)$"},
            appendfsync=one_of("everysec", "always"),
            persistence=closed(["size"], size=TEXT, storageClass=TEXT),
            resources=quantities(),
        ),
        "leader_election": closed(["lease_ttl_s", "renew_interval_s"], [leases()], enabled=FLAG, lease_ttl_s=at_least(1), renew_interval_s=at_least(1)),
        "search_ui": closed(
            ["scoped_key_max_age_days", "scoped_key_rotate_before_expiry_days"],
            [scoped_keys()],
            enabled=FLAG,
            auth=closed(session_ttl_s=at_least(1), session_rate_limit=TEXT),
            rate_limit=limit(redis_key_prefix=TEXT, redis_ttl_s=at_least(1)),
            scoped_key_max_age_days=at_least(2),
            scoped_key_rotate_before_expiry_days=at_least(1),
            scoped_key_rotation_drain_s=AMOUNT,
        ),
        "admin_ui": closed(
            enabled=FLAG,
            session_ttl_s=at_least(1),
            rate_limit=limit(failed_attempt_threshold=at_least(1), backoff_start_minutes=at_least(1), backoff_max_hours=at_least(1)),
        ),
        "cdc": closed(
            enabled=FLAG,
            emit_ttl_deletes=FLAG,
            emit_internal_writes=FLAG,
            buffer=closed(
                primary=one_of("memory", "redis", "pvc"),
                memory_bytes=AMOUNT,
                overflow=one_of_or_unset("redis", "pvc", "drop"),
                redis_bytes=AMOUNT,
            ),
        ),
    }


def schema():
    known = properties()
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart tasklog. Made by charts/make_schema.py.",
        **closed([name for name in known if name != "global"], rules(), **known),
    }


def main():
    text = json.dumps(schema(), separators=(",", ":")) + "\n"
    if "--check" in sys.argv[1:]:
        if FILE.read_text() != text:
            sys.exit(f"{FILE} is not what this makes: run charts/make_schema.py")
    else:
        FILE.write_text(text)


if __name__ == "__main__":
    main()
