"""The generated models are those of the description, and the description is that of the server."""

from __future__ import annotations

import dataclasses
import json

import httpx

import generate_models
from zoo_compute import JobState, LocalNetwork, models, operations


def test_the_models_are_those_that_would_be_generated() -> None:
    description = json.loads(generate_models.DESCRIPTION.read_text())
    assert generate_models.MODELS.read_text() == generate_models.generate(description), "run tools/generate_models.py"


def test_the_description_is_that_of_the_server(zoo: LocalNetwork) -> None:
    served = httpx.get(f"{zoo.url}/openapi.json", trust_env=False).json()
    assert served == json.loads(generate_models.DESCRIPTION.read_text()), "save what it serves as openapi.json"


def test_fields_that_are_not_known_here_are_ignored() -> None:
    assert models.Health.of({"status": "ok", "version": "9", "mood": "good"}) == models.Health(status="ok", version="9")


def test_a_table_of_metrics_has_every_field_of_a_round() -> None:
    fields = {field.name for field in dataclasses.fields(models.Round)} - {"contributions"}
    assert set(operations.METRICS) == fields and len(operations.METRICS) == len(fields)


def test_states_are_written_as_the_server_writes_them() -> None:
    assert str(JobState.BUDGET_USED) == f"{JobState('budget_used')}" == "budget_used"
