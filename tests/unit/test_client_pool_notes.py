"""Names a pool does not know."""

from __future__ import annotations

from typing import Any

from penstock.client.pool_notes import new_queue, unknown_variables
from penstock.contracts.pools import Pool

TEMPLATE: dict[str, Any] = {"job_configuration": {}, "variables": {"properties": {"env": {}, "stream_output": {}}}}


def pool(**fields: Any) -> Pool:
    values: dict[str, Any] = dict.fromkeys(Pool.model_fields) | {
        "id": "p",
        "name": "etl",
        "type": "process",
        "is_paused": False,
        "status": "READY",
        "base_job_template": TEMPLATE,
        "queues": [],
    }
    return Pool.model_construct(**(values | fields))


def test_a_variable_the_template_declares_is_known_by_its_first_part() -> None:
    assert unknown_variables(pool(), ["stream_output", "env.DEBUG", "env"]) == []


def test_any_other_is_named_once_with_what_was_meant() -> None:
    assert unknown_variables(pool(), ["streem_output", "zzz.a", "zzz.b"]) == [
        "work pool 'etl' has no job variable 'streem_output': it changes nothing; did you mean 'stream_output'?",
        "work pool 'etl' has no job variable 'zzz': it changes nothing",
    ]


def test_an_empty_template_declares_nothing() -> None:
    assert len(unknown_variables(pool(base_job_template={}), ["env"])) == 1


def test_a_queue_that_is_missing_will_be_created() -> None:
    assert new_queue(pool(), "fast") == ["this creates work queue 'fast' in 'etl'"]
