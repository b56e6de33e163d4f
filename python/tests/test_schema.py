"""What this package sends is what the schema of a job describes, by a validator that others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from zoo_compute import CheckpointConfig, ComputeJob
from zoo_compute.job_config import TOP_KEYS, JobDocument

ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "crates" / "job"
SCHEMA = json.loads((JOB / "job.schema.json").read_text())
DOCUMENTS = json.loads((JOB / "tests" / "schema" / "documents.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]) == TOP_KEYS | {"$schema"}


@pytest.mark.parametrize("document", DOCUMENTS["accepted"], ids=json.dumps)
def test_it_takes_what_zoo_takes(document: dict[str, Any]) -> None:
    VALIDATOR.validate(document)


@pytest.mark.parametrize("document", DOCUMENTS["refused"], ids=json.dumps)
def test_it_refuses_what_zoo_refuses(document: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(document)


def test_a_compute_job_is_a_document_of_the_schema() -> None:
    job = ComputeJob(
        model_config={"preset": "qwen3-tiny", "layers": 3},
        data_config={"data": "text:ab", "held_out": {"percent": 3}},
        training_config={"steps": 20, "rounds": {"inner_steps": 5}, "batch_sequences": 8, "clip": None},
        budget_max=10000,
        checkpoint=CheckpointConfig(interval=10, redundancy=2, keep=1),
        name="mine",
    )
    VALIDATOR.validate(job.document().said())
    wrong = ComputeJob(training_config={"batch_sequence": 8}).document().said()
    assert [error.validator for error in VALIDATOR.iter_errors(wrong)] == ["additionalProperties"]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.*")), ids=lambda path: path.name)
def test_the_examples_are_documents_of_the_schema(path: Path) -> None:
    VALIDATOR.validate(JobDocument.read(path).said())
