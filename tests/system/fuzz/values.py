"""Values that are hard to carry: texts, numbers, and JSON that is none; pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

HOSTILE: Final = (
    *(
        "",
        " ",
        "{0}",
        "penstock:{0}:events",
        "a:b",
        "a/b",
        "a/b/c",
        "/",
        "..",
        "\n",
        "a\nb",
        "a\r\n\x1b[31mb",
        "*",
        "[a-z]?*",
        "?",
    ),
    *(
        '"}',
        '"',
        "\\",
        '\\"',
        "'",
        "']); redis.call('FLUSHALL') --",
        '","type":"delete_pool"',
        "{{ name }}",
        "{{",
        "%s%d",
        "${x}",
    ),
    *(
        "$(true)",
        ";true",
        "`true`",
        "-",
        "--help",
        "-rf",
        "@file",
        "true",
        "null",
        "None",
        "0",
        "-1",
        "1e3",
        "NaN",
        "default",
    ),
    *(
        "prefect",
        "Prefect-pool",
        "penstock",
        "__data__",
        "type",
        "__proto__",
        "<script>",
        "&amp;",
        "a%b",
        "e\u0301",
        "\u00e9",
    ),
    *(
        "\u202etxt",
        "\u200b",
        "\ufeff",
        "\ufffd",
        "\uffff",
        "\U0001f600",
        "\U0010ffff",
        "\u0000",
        "a\u0000b",
        "\x7f",
        "\x85",
    ),
    *(
        "x" * 200,
        "x" * 201,
        "\u00e9" * 200,
        "x" * 5000,
        "\u4e2d" * 3000,
        "2030-01-01T00:00:00Z",
        "0001-01-01T00:00:00+10:00",
    ),
    *("9999-12-31T23:59:59-12:00", "2030-01-01T00:00:00", "not a date", "5", "5.0", "1_0", " 5", "+5"),
    *(
        "00000000-0000-0000-0000-000000000000",
        "01a2009b-f01f-7000-9bd5-16bb725e0005",
        "01A2009B-F01F-7000-9BD5-16BB725E0000",
    ),
)
"""Texts that are harmless to execute and hard to carry: as names, in keys, in JSON, in Lua, in logs."""


@dataclass(frozen=True)
class Raw:
    """JSON text as it is, also where it is none."""

    text: str


NUMBERS: Final = (
    *(
        0,
        1,
        -1,
        2,
        7,
        0.0,
        -0.0,
        0.5,
        -2.5,
        1e-7,
        1e15,
        2**31 - 1,
        2**31,
        2**53,
        2**53 + 1,
        2**63,
        2**64,
        -(2**63),
        10**30,
    ),
    *(
        Raw("1e308"),
        Raw("1e309"),
        Raw("-1e999"),
        Raw("1e-999"),
        Raw("NaN"),
        Raw("Infinity"),
        Raw("-Infinity"),
        Raw("-0"),
    ),
    *(
        Raw("9" * 308),
        Raw("9" * 400),
        Raw("9" * 5000),
        Raw("01"),
        Raw("+1"),
        Raw("1."),
        Raw(".5"),
        Raw("0x10"),
        Raw("1_000"),
    ),
)
LONE_SURROGATES: Final = (Raw('"\\ud800"'), Raw('"\\udfff x"'), Raw('"\\udc00\\ud800"'), Raw('{"\\ud83d": 1}'))
DEPTHS: Final = (3, 40, 150, 300, 1200, 20_000)
ENVELOPE: Final = b"\x89BIN\x0d\x0a\x1a\x0a\x00\x01\x00\x00\x00\x12\x00\x00\x00\x2a"
"""How FastStream's own binary format begins."""
_MARK: Final = re.compile(r'"\\u0001(\d+)\\u0001"')


def spell(value: Any) -> str:
    """Spell a value as JSON; :class:`Raw` as it is."""
    raw: list[str] = []

    def mark(one: Raw) -> str:
        raw.append(one.text)
        return f"\x01{len(raw) - 1}\x01"

    text = json.dumps(value, ensure_ascii=False, default=mark)
    return _MARK.sub(lambda found: raw[int(found[1])], text) if raw else text
