"""The model of the claim protocol speaks of what there is."""

from __future__ import annotations

import re

from tests.architecture.source import PENSTOCK, ROOT, SERVICES

MODEL = (ROOT / "tests" / "system" / "claim_protocol.pml").read_text(encoding="utf-8")
HEADER = MODEL.partition("*/")[0]


def test_every_file_the_model_names_exists() -> None:
    named = re.findall(r"(?:services|shared)/[\w/]+\.(?:lua|py)", HEADER)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_inline_the_model_says_it_has_is_there_and_so_is_its_counterpart() -> None:
    rows = re.findall(r"^ \*   (\w[\w, ()]*?)  +\S", HEADER, re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"\b[a-z]+_[a-z_]+\b", row)}
    assert {name for name in names if not re.search(rf"\binline {name}\(", MODEL)} == set()
    scripts = (SERVICES / "dispatcher" / "lua", PENSTOCK / "includes")
    lua = "\n".join(path.read_text(encoding="utf-8") for folder in scripts for path in folder.glob("*.lua"))
    assert {
        name for name in names - {"read_room"} if not re.search(rf"function {name}\(|^-- {name}:", lua, re.MULTILINE)
    } == set()
