"""What people write into files and options, right and wrong."""

from __future__ import annotations

from typing import Any, Final

POOL: Final = "inputs"
DEPLOYED: Final = "hello/inputs"
TEMPLATE: Final[dict[str, Any]] = {
    "job_configuration": {
        "command": "{{ command }}",
        "env": "{{ env }}",
        "image": "registry/{{ image }}:{{ tag }}",
        "nested": {"list": ["{{ tag }}", 1, None, {"deep": "{{ env }}"}]},
    },
    "variables": {
        "type": "object",
        "properties": {
            "command": {"type": "string", "title": "Command", "default": "true"},
            "env": {"type": "object", "additionalProperties": {"type": "string"}, "default": {"A": "b"}},
            "image": {"$ref": "#/definitions/image"},
            "tag": {"anyOf": [{"type": "string", "pattern": "^[a-z0-9.]+$"}, {"type": "integer"}], "default": "latest"},
        },
        "required": ["command"],
        "definitions": {"image": {"type": "string", "enum": ["a", "b"], "default": "a"}},
    },
}
PROJECT: Final[dict[str, Any]] = {
    "deployments": [
        {
            "name": "inputs",
            "flow_name": "hello",
            "command": "python -m load",
            "work_pool": {"name": POOL, "work_queue_name": "low", "job_variables": {"stream_output": False}},
            "parameters": {"day": "today", "limits": [1, 2.5, None]},
            "concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"},
            "retries": 2,
            "retry_delay_seconds": 60,
            "tags": ["nightly", "etl"],
            "version": "1.10",
            "schedules": [
                {"cron": "0 6 * * 1-5", "timezone": "Europe/Berlin", "catch_up": "latest"},
                {"interval": 3600, "slug": "hourly", "active": False},
                {"rrule": "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=18;BYMINUTE=0"},
            ],
        }
    ]
}
YAML: Final = """\
# penstock.yaml
definitions:
  often: &often {interval: 600, slug: often}
deployments:
  - name: inputs
    flow_name: hello
    command: [python, -m, load]
    work_pool:
      name: inputs
      job_variables: {stream_output: false}
    description: |
      Two lines,
      said at length.
    parameters: {day: 2026-11-28, at: 12:30:00, number: 0o17, flag: yes, none: ~}
    schedules:
      - *often
      - cron: "@daily"
    pull:
      - prefect.deployments.steps.set_working_directory: {directory: /srv}
"""
WORDS: Final = (
    *(
        "* * * * *",
        "0 6 * * 1-5",
        "@hourly",
        "61 * * * *",
        "* * * * * * *",
        "0 0 30 2 *",
        "*/0 * * * *",
        "a b c d e",
        "0 0 1-99999999999 * *",
    ),
    *(
        "10m",
        "0",
        "-5",
        "1e9",
        "90s",
        "1h30m",
        "nan",
        "inf",
        "0.0001",
        "99999999999999999999",
        "366d",
        "367d",
        "1d1d",
        "٣m",
    ),
    *(
        "FREQ=DAILY",
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=YEARLY;BYYEARDAY=999",
        "RRULE:FREQ=DAILY;COUNT=0",
        "FREQ=DAILY;UNTIL=20200101",
    ),
    *(
        "DTSTART:20260101T000000\\nRRULE:FREQ=DAILY",
        "DTSTART;TZID=Nowhere:20260101T000000\nRRULE:FREQ=HOURLY",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=;",
    ),
    *(
        "Europe/Berlin",
        "Nowhere/City",
        "../../etc/passwd",
        "/etc/localtime",
        "UTC+99",
        "2026-11-28",
        "2026-11-28T00:00:00+99:00",
        "9999-12-31T23:59",
    ),
    *(
        "all",
        "latest",
        "ALL",
        "never",
        "1700000000000-0",
        "0",
        "1700000000000-0,5-5",
        "99999999999999999999999-0",
        "0/1-1",
        "7/1-1",
        "a/b-c",
        "1-1-1",
    ),
    *(
        "prefect.work-pool.*",
        "[",
        "[!",
        "*" * 300,
        "a=b",
        "a",
        "=",
        "a=",
        "=b",
        "a==b",
        "env.A=1",
        "env.=1",
        "env.A.B=1",
        "a={",
        'a={"b":[1,2}',
        "a=1e999",
    ),
    *(
        "a=NaN",
        "a=-Infinity",
        "a=" + "9" * 400,
        "a=" + "9" * 5000,
        "a=" + "[" * 200,
        "a=" + "[" * 5000 + "]" * 5000,
        'a={"b":1,"b":2}',
        "a=" + "x" * 20_000,
    ),
)
SCALARS: Final = (
    *(
        "",
        "~",
        "[]",
        "{}",
        "5",
        "-1",
        "1.5",
        ".nan",
        ".inf",
        "0x1F",
        "1_000",
        "9" * 400,
        "yes",
        "'",
        '"',
        "*often",
        "*nobody",
        "&often x",
        "!!python/object:os.system x",
    ),
    *(
        "!!binary aGVsbG8=",
        "!!set {a}",
        "2026-11-28",
        "2026-11-28T00:00:00Z",
        "9999999-01-01",
        "{{ $HOME }}",
        "{{ $NOBODY }}",
        "{{ name }}",
        "{{",
        "<<",
        "{<<: *often}",
    ),
    *(
        "[" * 100,
        "[" * 30 + "]" * 30,
        "{a: b, a: c}",
        "? a",
        "- a",
        "|",
        "> x",
        "%",
        "@x",
        "`x`",
        "a: b: c",
        "null",
        "{1: 2}",
        "{[a]: b}",
        "\u00e9",
        "x" * 3000,
    ),
)
"""What may stand behind a colon of YAML."""
