"""The README names commands that exist, tests that exist, and every word of the documents it promises to know."""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.source import ROOT, tree
from tests.command_tree import commands, parse, problem_with

README = (ROOT / "README.md").read_text(encoding="utf-8")
TITLE = "## Reference: the words of Prefect's documents\n"
REFERENCE = README.partition(TITLE)[2].partition("\n## ")[0]
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
PLACEHOLDER = re.compile(r"penstock COMMAND\b")

WORDS = """
work-pool create|--paused|--type|--base-job-template|--description|--concurrency-limit|work-pool ls|work-pool inspect|
work-pool preview|--hours|work-pool update|work-pool pause|work-pool resume|work-pool delete|set-concurrency-limit|
clear-concurrency-limit|get-default-base-job-template|job_configuration|variables|job_variables|stream_output|
READY|NOT_READY|PAUSED|ONLINE|OFFLINE|worker start|--name|-n|--pool|-p|--work-queue|-q|-t|--prefetch-seconds|--run-once|
--limit|-l|--with-healthcheck|--install-policy|always|if-not-present|never|prompt|PREFECT_WORKER_PREFETCH_SECONDS|
PREFECT_WORKER_HEARTBEAT_SECONDS|PREFECT_WORKER_QUERY_SECONDS|PREFECT_API_URL|PREFECT_API_KEY|prefect.work-pool.ready|
prefect.work-pool.paused|prefect.work-pool.updated|prefect.work-queue.ready|prefect.work-queue.paused|
prefect.work-queue.updated|.not-ready|updated_fields|updates
"""


def typed() -> list[str]:
    """Command lines in console blocks, complete as they stand; a line that ends in a backslash goes on."""
    blocks = "".join(CONSOLE.findall(README)).replace("\\\n", " ")
    return re.findall(r"^\s*\$ (penstock .*)$", blocks, re.MULTILINE)


def mentioned() -> list[str]:
    """Commands named in running text; words in capitals stand for values."""
    return sorted(set(re.findall(r"`(penstock [^`]*)`", FENCED.sub("", README))))


def named_tests() -> list[tuple[str, str, str]]:
    """(what the link says before the colons, name of the test, file it leads to)."""
    return re.findall(r"\[([\w.]+)::(\w+)\]\(([^)]+)\)", README)


@pytest.mark.parametrize("line", typed())
def test_what_the_readme_types_can_be_typed(line: str) -> None:
    assert parse(line) in dict(commands())


@pytest.mark.parametrize("line", mentioned())
def test_commands_the_readme_mentions_exist(line: str) -> None:
    assert problem_with(PLACEHOLDER.sub("penstock", line)) == ""


def test_the_reference_is_not_empty() -> None:
    assert len(typed()) > 5
    assert len(mentioned()) > 30
    assert len(named_tests()) > 40


def test_tests_the_readme_names_exist_where_it_says() -> None:
    wrong = [
        f"{file}::{name}"
        for said, name, file in named_tests()
        if not file.endswith(f"/{said}") or name not in functions(file)
    ]
    assert wrong == []


def functions(file: str) -> set[str]:
    return {
        node.name for node in ast.walk(tree(ROOT / file)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_row_of_the_reference_names_a_test() -> None:
    rows = [row for row in REFERENCE.splitlines() if row.startswith("| ") and not row.startswith(("| **", "| in "))]

    assert [row for row in rows if "::test_" not in row] == []


def test_no_word_of_the_documents_is_missing() -> None:
    rows = " ".join(row.split("|")[1] for row in REFERENCE.splitlines() if row.startswith("| "))
    # `work-pool set-concurrency-limit`, `clear-...`: a command named beside another stands without its group.
    words = [word.strip().removeprefix("work-pool ") for word in WORDS.replace("\n", "").split("|")]

    assert [word for word in words if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", rows)] == []
