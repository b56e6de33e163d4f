"""Lets every second request name something that is there: random ids name nothing."""

import json
import os

import jsonschema_rs
import schemathesis

THERE = json.loads(os.environ["THERE"])
FILES = ("config.json", "model.safetensors", "tokenizer.json")
JOB = jsonschema_rs.validator_for(json.loads(os.environ["JOB_SCHEMA"]))
requests = 0


def is_odd():
    global requests
    requests += 1
    return requests % 2 == 1


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if path_parameters and is_odd():
        of_node = context.operation.path.startswith("/v1/nodes/")
        known = {**THERE, "id": THERE["node"] if of_node else THERE["id"], "name": FILES[requests // 2 % len(FILES)]}
        return {name: known.get(name, value) for name, value in path_parameters.items()}
    return path_parameters


@schemathesis.hook
def map_body(context, body):
    """A job that can be made is made small, of the text that is there. What is wrong with another stays."""
    if context.operation.path == "/v1/jobs" and isinstance(body, dict) and JOB.is_valid(body):
        rest = {key: value for key, value in body.items() if key not in ("model", "vocabulary")}
        return {**rest, "preset": "qwen3-tiny", "data": THERE["data"]}
    return body
