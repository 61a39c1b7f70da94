"""What the fuzzer holds every answer against, beyond the service's own document. Loaded through SCHEMATHESIS_HOOKS.

FUZZ_AS says who asks: `anyone` (a service without tokens), `reader` (a token that only reads), `nobody` (no token, where one
is needed), or `replica` (a store that is served for reading only).
"""

import json
import os
import uuid

import schemathesis

WHO = os.environ["FUZZ_AS"]
WAITS_FOR = "Tasklog-Min-Position"
OPEN = {"/healthz", "/readyz"}
WRITES = {"/v1/commands", "/v1/transactions"}


def header(response, name):
    values = response.headers.get(name.lower()) or [None]
    return values[0]


@schemathesis.check
def a_server_error_is_only_a_position_that_did_not_come(ctx, response, case):
    """503 is the right answer to one request only: a read that asks for a position which the store does not have."""
    if response.status_code < 500:
        return
    asked = {name.lower(): value for name, value in (case.headers or {}).items()}.get(WAITS_FOR.lower())
    told = header(response, "tasklog-position")
    assert response.status_code == 503 and asked is not None and told is not None, response.text
    assert int(asked) > int(told), f"position {asked} was there: {response.text}"
    assert json.loads(response.text)["kind"] == "unavailable", response.text
    assert int(header(response, "retry-after")) > 0


@schemathesis.check
def a_problem_says_its_own_status(ctx, response, case):
    if header(response, "content-type") == "application/problem+json":
        problem = json.loads(response.text)
        assert problem["status"] == response.status_code, response.text
        assert problem["type"] == "urn:tasklog:problem:" + problem["kind"], response.text


@schemathesis.check
def nobody_may_more_than_their_token(ctx, response, case):
    path, status = case.operation.path, response.status_code
    if WHO == "nobody" and path not in OPEN:
        # What is no path, and a method that no path has, is told before anybody is asked who they are.
        assert status in (401, 404, 405), f"{status} without a token"
    if WHO in ("reader", "replica") and path in WRITES:
        assert status not in (200, 409), f"{status}: {WHO} has written"
    if WHO != "nobody":
        assert status != 401, "there is a token, or none is needed"


@schemathesis.hook
def filter_failure(ctx, failure, case, response):
    """Two things that a document cannot say. A header that nobody knows is passed over, as HTTP wants it. And 1.0 is an integer
    to JSON Schema, but not to this service."""
    unknown_header = "x-schemathesis-unknown-property" in {name.lower() for name in case.headers or {}}
    return not unknown_header and "invalid type: floating point" not in response.text


def is_id(value):
    try:
        return bool(uuid.UUID(value))
    except (AttributeError, TypeError, ValueError):
        return False


@schemathesis.hook
def before_call(context, case, kwargs):
    """A repeated id is answered as the first time, whatever else the request says: every request has its own."""
    own = str(uuid.uuid4())
    if isinstance(case.body, dict) and is_id(case.body.get("command_id")):
        case.body["command_id"] = own
    if case.headers and is_id(case.headers.get("Idempotency-Key")):
        case.headers["Idempotency-Key"] = own
