from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock.contracts.runs import RunSpec
from penstock.errors import Invalid, Unavailable
from penstock.templates import default_template
from penstock.worker import preparation
from penstock.worker.identity import Identity
from penstock.worker.preparation import Preparation, laid_under

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CLIENT: Any = None


def spec(**fields: Any) -> RunSpec:
    return RunSpec(command=["true"], **fields)


def template(**env: str) -> bytes:
    return orjson.dumps({"job_configuration": {"env": env}, "variables": {}})


class Pool:
    """Answers what a test says, and counts how often it is asked."""

    def __init__(self, answer: Callable[[], Awaitable[bytes | None]]) -> None:
        self.answer = answer
        self.asked = 0

    async def read(self, *_: Any) -> bytes | None:
        self.asked += 1
        return await self.answer()


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    async def answer() -> bytes | None:
        return template(STAGE="one")

    pool = Pool(answer)
    monkeypatch.setattr(preparation, "read_template", pool.read)
    return pool


@pytest.fixture
def prepared() -> Preparation:
    return Preparation(CLIENT, Identity("etl", "w1", "process", 0))


def test_what_the_run_says_itself_wins_and_the_rest_is_filled_in() -> None:
    own = spec(env={"A": "run", "B": None}, labels={"x": "run"}, working_dir="here")
    configuration = {
        "command": "ignored",
        "name": "ignored",
        "env": {"A": "template", "B": "template", "C": "template"},
        "labels": {"x": "template", "y": "template"},
        "stream_output": False,
        "working_dir": "there",
    }

    assert laid_under(own, configuration) == spec(
        env={"A": "run", "B": None, "C": "template"},
        labels={"x": "run", "y": "template"},
        working_dir="here",
        stream_output=False,
    )
    assert laid_under(spec(), {"working_dir": "there"}).working_dir == "there"


@pytest.mark.parametrize(
    "configuration", [{}, {"stream_output": True}, {"env": None, "labels": {}, "working_dir": None}]
)
def test_a_configuration_that_says_nothing_leaves_the_very_same_specification(configuration: dict[str, Any]) -> None:
    own = spec(stream_output=False)
    assert laid_under(own, configuration) is own


def test_values_of_env_and_labels_that_are_no_text_become_json_and_null_removes_a_variable() -> None:
    configuration = {"env": {"N": 1, "B": True, "L": [1, "ö"], "GONE": None}, "labels": {"n": 1.5, "none": None}}

    completed = laid_under(spec(), configuration)

    assert completed.env == {"N": "1", "B": "true", "L": '[1,"ö"]', "GONE": None}
    assert completed.labels == {"n": "1.5", "none": ""}


def test_fields_no_process_can_be_given_are_told_with_path_and_rule() -> None:
    wrong = {"env": ["A=1"], "labels": "x", "stream_output": "no", "working_dir": 7}
    with pytest.raises(Invalid) as told:
        laid_under(spec(), wrong)
    for field in wrong:
        assert f"$.{field}: " in str(told.value)
    assert str(told.value).count("(type)") == 4


async def test_the_template_is_read_once_for_all_runs_of_a_batch(pool: Pool, prepared: Preparation) -> None:
    prepared.begin_batch()
    runs = await asyncio.gather(*(prepared.prepare(spec()) for _ in range(50)))
    assert {run.env["STAGE"] for run in runs} == {"one"}
    assert pool.asked == 1

    async def changed() -> bytes:
        return template(STAGE="two")

    pool.answer = changed
    assert (await prepared.prepare(spec())).env == {"STAGE": "one"}
    prepared.begin_batch()
    assert (await prepared.prepare(spec())).env == {"STAGE": "two"}
    assert pool.asked == 2


async def test_a_default_template_without_job_variables_changes_nothing(pool: Pool, prepared: Preparation) -> None:
    async def default() -> bytes:
        return orjson.dumps(default_template("process"))

    pool.answer = default
    own = spec(env={"A": "1"})
    assert await prepared.prepare(own) is own


@pytest.mark.parametrize("gone", [True, False])
async def test_without_an_answer_the_last_known_template_counts(
    pool: Pool, prepared: Preparation, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    monkeypatch.setattr(preparation, "READ_SECONDS", 0.05)
    await prepared.prepare(spec())

    async def silence() -> bytes | None:
        if not gone:
            await asyncio.Event().wait()
        return None

    pool.answer = silence
    prepared.begin_batch()
    assert (await prepared.prepare(spec())).env == {"STAGE": "one"}


async def test_without_any_template_ever_read_it_is_said_and_the_next_batch_asks_again(
    pool: Pool, prepared: Preparation
) -> None:
    answer = pool.answer

    async def outage() -> bytes:
        raise Unavailable("Redis does not answer")

    pool.answer = outage
    with pytest.raises(Unavailable, match="the template of pool 'etl' cannot be read: Redis does not answer"):
        await prepared.prepare(spec())
    pool.answer = answer
    prepared.begin_batch()
    assert (await prepared.prepare(spec())).env == {"STAGE": "one"}


async def test_a_pool_that_is_not_there_adds_nothing(pool: Pool, prepared: Preparation) -> None:
    async def missing() -> None:
        return None

    pool.answer = missing
    own = spec()
    assert await prepared.prepare(own) is own


async def test_a_run_given_up_while_the_template_is_read_leaves_the_reading_to_the_others(
    pool: Pool, prepared: Preparation
) -> None:
    gate = asyncio.Event()

    async def slow() -> bytes:
        await gate.wait()
        return template(STAGE="slow")

    pool.answer = slow
    first, second = (asyncio.create_task(prepared.prepare(spec())) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    gate.set()
    assert (await second).env == {"STAGE": "slow"}
    assert pool.asked == 1
