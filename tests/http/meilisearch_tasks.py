"""An unmodified Meilisearch client (the PyPI package meilisearch) lists tasks and waits for one.

usage: meilisearch_tasks.py URL [TOKEN]      against a running `tasklog serve`
"""

import json
import sys
import threading
import time
import urllib.request
import uuid

import meilisearch
from meilisearch.errors import MeilisearchApiError

URL = sys.argv[1].rstrip("/")
TOKEN = sys.argv[2] if len(sys.argv) > 2 else None


def command(name, **args):
    headers = {"content-type": "application/json"}
    if TOKEN:
        headers["authorization"] = f"Bearer {TOKEN}"
    body = json.dumps({"command": name, "args": args}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{URL}/v1/commands", body, headers)) as answer:
        return json.load(answer)


client = meilisearch.Client(URL, TOKEN)
index = f"products-{uuid.uuid4().hex[:8]}"
ids = [f"mtask-{uuid.uuid4()}" for _ in range(3)]
uids = [
    command("tasks.register", miroir_id=id, node_tasks={}, index_uid=index, task_type="documentAdditionOrUpdate")["position"]
    for id in ids
]

page = client.get_tasks({"indexUids": [index], "limit": 2})
assert page.total == 3 and len(page.results) == 2 and page.next_ in uids, page
rest = client.get_tasks({"indexUids": [index], "limit": 2, "from": page.next_})
assert {task.uid for task in page.results} | {task.uid for task in rest.results} == set(uids)
assert client.get_tasks({"indexUids": [index], "statuses": ["succeeded"]}).total == 0


def finish():
    time.sleep(0.2)
    command("tasks.set_status", miroir_id=ids[0], status="processing")
    command("tasks.set_status", miroir_id=ids[0], status="succeeded")


worker = threading.Thread(target=finish)
worker.start()
done = client.wait_for_task(uids[0], timeout_in_ms=60_000)
worker.join()
assert done.status == "succeeded" and done.uid == uids[0] and done.index_uid == index, done
assert client.get_tasks({"indexUids": [index], "statuses": ["succeeded"]}).total == 1

for wrong, code in [({"statuses": ["finished"]}, "invalid_task_statuses"), ({"types": ["x"]}, "invalid_task_types")]:
    try:
        client.get_tasks(wrong)
        raise AssertionError(f"{wrong} was not refused")
    except MeilisearchApiError as error:
        assert error.code == code, error
try:
    client.get_task(2**40)
    raise AssertionError("a task that is not there was found")
except MeilisearchApiError as error:
    assert error.code == "task_not_found", error
print(f"meilisearch {meilisearch.version.__version__}: listed, paged and waited for tasks")
