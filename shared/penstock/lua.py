"""Load ``.lua`` files, check their headers, call them by name.

A script is one file, ``<package>/lua/<verb_noun>.lua``, that starts with a header::

    -- pause_pool: Stop handing out runs of a pool.
    --
    -- KEYS      events       STREAM  the partition's events
    -- ARGV      pool         name of the pool
    -- ARGV      ...rest      anything after the named arguments
    -- USES      pools pool   key families formed inside, all of the slot of KEYS[1]
    -- INCLUDES  events       files of penstock/includes, put in front
    -- CONSTANTS NAME         values of Python, see CONSTANTS
    -- RETURNS   ...
    -- COST      ...
    -- RULE      rules.name or "none"

KEYS and ARGV lines become Lua locals of the same name; every family in USES becomes a function ``key_<family>(id)``. A call must
name exactly the arguments the header names, and a header must use exactly what the body uses: both are checked, the first at
every call, the second when the file is loaded.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from penstock import keys, streams
from penstock.bus.roundtrip import send_all
from penstock.contracts.base import MAX_LIMIT
from penstock.contracts.deployments import MAX_SCHEDULES
from penstock.contracts.events import EVENT_NAMESPACE, FOLLOWS_WITHIN_SECONDS
from penstock.contracts.runs import IDEMPOTENCY_SECONDS, LATEST_LOOKED_AT, MISSED_AFTER_SECONDS, REMEMBERED_SECONDS
from penstock.contracts.workers import AUDIT_SECONDS
from penstock.errors import BadScript

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Value = str | bytes | int | float | bool | None

CONSTANTS: Final[dict[str, str]] = {
    "EVENT_NAMESPACE": "'" + "".join(f"\\{byte:03d}" for byte in EVENT_NAMESPACE.bytes) + "'",
    "EVENTS_MAX_LENGTH": str(streams.EVENTS.max_length),
    "COMMANDS_MAX_LENGTH": str(streams.COMMANDS.max_length),
    "DEFINITIONS_MAX_LENGTH": str(streams.DEFINITIONS.max_length),
    "DISPATCH_MAX_LENGTH": str(streams.DISPATCH.max_length),
    "MAX_PRIORITY": str(MAX_LIMIT),
    "MAX_SCHEDULES": str(MAX_SCHEDULES),
    "AUDIT_MS": str(AUDIT_SECONDS * 1000),
    "INBOX_MAX_LENGTH": str(streams.INBOX_MAX_LENGTH),
    "INBOX_BEYOND_SLOTS": str(streams.INBOX_BEYOND_SLOTS),
    "FOLLOWS_WITHIN_MS": str(FOLLOWS_WITHIN_SECONDS * 1000),
    "REPLY_EXPIRE_SECONDS": str(streams.REPLY_EXPIRE_SECONDS),
    "LAST_APPLIED_EXPIRE_SECONDS": str(streams.LAST_APPLIED_EXPIRE_SECONDS),
    "ANSWER_EXPIRE_SECONDS": str(streams.ANSWER_EXPIRE_SECONDS),
    "IDEMPOTENCY_MS": str(IDEMPOTENCY_SECONDS * 1000),
    "REMEMBERED_MS": str(REMEMBERED_SECONDS * 1000),
    "MISSED_AFTER_MS": str(MISSED_AFTER_SECONDS * 1000),
    "LATEST_LOOKED_AT": str(LATEST_LOOKED_AT),
}
"""What a header's CONSTANTS line may name -> a Lua literal."""

_HEADER_LINE = re.compile(r"^-- (KEYS|ARGV|USES|INCLUDES|CONSTANTS|RETURNS|COST|RULE)\s+(.+)$")
_PURPOSE = re.compile(r"^-- (\w+): \S.*[.]$")
_WORDS = re.compile(r"\w+")
_REQUIRED = ("RETURNS", "COST", "RULE")


class Header(NamedTuple):
    """What a script says of itself."""

    name: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    rest: str
    uses: tuple[str, ...]
    includes: tuple[str, ...]
    constants: tuple[str, ...]
    rule: str


def parse_header(name: str, source: str) -> Header:
    """Read the comment block at the top of a script.

    Args:
        name: the file's stem; the first line must repeat it.
        source: the file's text.

    Returns:
        The header.

    Raises:
        BadScript: the header is missing, incomplete or contradicts itself.
    """
    lines = source.splitlines()
    purpose = _PURPOSE.match(lines[0]) if lines else None
    if not purpose or purpose.group(1) != name:
        raise BadScript(f"{name}.lua: the first line must be '-- {name}: One sentence.'")
    found: dict[str, list[str]] = {}
    for line in lines[1:]:
        if not line.startswith("--"):
            break
        if match := _HEADER_LINE.match(line):
            found.setdefault(match.group(1), []).append(match.group(2))
    missing = [word for word in _REQUIRED if word not in found]
    if missing:
        raise BadScript(f"{name}.lua: the header has no {', '.join(missing)}")
    arguments = [text.split()[0] for text in found.get("ARGV", [])]
    rest = [argument[3:] for argument in arguments if argument.startswith("...")]
    if len(rest) > 1 or (rest and not arguments[-1].startswith("...")):
        raise BadScript(f"{name}.lua: only the last ARGV line may start with '...'")

    def words(part: str) -> tuple[str, ...]:
        return tuple(word for text in found.get(part, []) for word in text.split())

    header = Header(
        name=name,
        keys=tuple(text.split()[0] for text in found.get("KEYS", [])),
        args=tuple(argument for argument in arguments if not argument.startswith("...")),
        rest=rest[0] if rest else "",
        uses=words("USES"),
        includes=words("INCLUDES"),
        constants=words("CONSTANTS"),
        rule=found["RULE"][0],
    )
    _check_names(header)
    return header


def _check_names(header: Header) -> None:
    """Refuse names that do not exist or are said twice."""
    arguments = (*header.keys, *header.args, *((header.rest,) if header.rest else ()))
    for part, names in (("KEYS and ARGV", arguments), ("USES", header.uses), ("INCLUDES", header.includes)):
        twice = sorted({word for word in names if names.count(word) > 1})
        if twice:
            raise BadScript(f"{header.name}.lua: {part} say {', '.join(twice)} twice")
    for family in (*header.keys, *header.uses):
        if family not in keys.FAMILIES:
            raise BadScript(f"{header.name}.lua: no key family {family!r} in penstock.keys")
    for family in header.keys:
        if "{}" in keys.FAMILIES[family]:
            raise BadScript(f"{header.name}.lua: {family!r} takes an id; form it inside, under USES")
    for constant in header.constants:
        if constant not in CONSTANTS:
            raise BadScript(f"{header.name}.lua: no constant {constant!r} in penstock.lua")


def _body(source: str) -> str:
    """Drop comments, so that a word in prose does not count as a use."""
    return re.sub(r"--[^\n]*", "", source)


def _check_body(header: Header, source: str) -> None:
    """Hold the header against the code below it."""
    body = _body(source)
    words = set(_WORDS.findall(body))
    used = {word[4:] for word in words if word.startswith("key_")}
    declared = set(header.uses)
    if used != declared:
        raise BadScript(
            f"{header.name}.lua: USES and the code disagree on {', '.join(sorted(used ^ declared))}",
        )
    if "KEYS" in words:
        raise BadScript(f"{header.name}.lua: use the names of the header, not KEYS")
    for argument in header.args:
        if argument not in words:
            raise BadScript(f"{header.name}.lua: ARGV {argument} is never used")
    if header.rest and not {"ARGV", f"{header.rest}_from"} <= words:
        raise BadScript(f"{header.name}.lua: ARGV ...{header.rest} is never used, it starts at {header.rest}_from")
    if "ARGV" in words and not header.rest:
        raise BadScript(f"{header.name}.lua: use the names of the header, not ARGV")
    for constant in CONSTANTS:
        if (constant in words) != (constant in header.constants):
            raise BadScript(f"{header.name}.lua: CONSTANTS and the code disagree on {constant}")


def _read(package: str, folder: str, name: str) -> str:
    try:
        return resources.files(package).joinpath(folder, f"{name}.lua").read_text(encoding="utf-8")
    except FileNotFoundError as problem:
        raise BadScript(f"{package} has no {folder}/{name}.lua") from problem


@cache
def include(name: str) -> tuple[Header, str]:
    """Read one file of ``penstock/includes``; it has the header of a script without KEYS and ARGV."""
    source = _read("penstock", "includes", name)
    header = parse_header(name, source)
    if header.keys or header.args or header.rest:
        raise BadScript(f"includes/{name}.lua: an include takes no KEYS and no ARGV")
    _check_body(header, source)
    return header, source


def _family_function(family: str) -> str:
    before, hole, after = keys.FAMILIES[family].partition("{}")
    if not hole:
        return f"local function key_{family}() return P_..'{before}' end"
    return f"local function key_{family}(id) return P_..'{before}'..id..'{after}' end"


def compose(header: Header, source: str) -> str:
    """Put in front of a script what its header promises; the result is what Redis runs."""
    included = [include(name) for name in header.includes]
    headers = [header, *(other for other, _ in included)]
    families = dict.fromkeys(family for part in headers for family in part.uses)
    constants = dict.fromkeys(constant for part in headers for constant in part.constants)
    first = [
        *(f"local {name} = KEYS[{index}]" for index, name in enumerate(header.keys, 1)),
        *(f"local {name} = ARGV[{index}]" for index, name in enumerate(header.args, 1)),
        *([f"local {header.rest}_from = {len(header.args) + 1}"] if header.rest else []),
        "local P_ = KEYS[1]:match('^(.-}:)')",
        *(_family_function(family) for family in families),
        *(f"local {constant} = {CONSTANTS[constant]}" for constant in constants),
    ]
    return "\n".join(["; ".join(first), *(text for _, text in included), source])


class Call(NamedTuple):
    """One script with its keys and arguments, ready to be sent."""

    script: Script
    numkeys: int
    arguments: tuple[Value, ...]


class Script:
    """One Lua script, callable by the names of its header.

    Args:
        package: dotted name of the package that has a ``lua`` folder.
        name: the file's stem.

    Raises:
        BadScript: the header is wrong.
    """

    def __init__(self, package: str, name: str) -> None:
        source = _read(package, "lua", name)
        self.header = parse_header(name, source)
        if not self.header.keys:
            raise BadScript(f"{name}.lua: KEYS needs at least one line, it decides the slot")
        _check_body(self.header, source)
        self._names = frozenset(self.header.args)
        self.text = compose(self.header, source)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def bind(self, partition: int, *, rest: Iterable[Value] = (), **arguments: Any) -> Call:
        """Pair the script with its arguments.

        Args:
            partition: where the keys live.
            rest: what follows the named arguments, if the header has a ``...`` line.
            **arguments: every ARGV name of the header, no more and no fewer. None becomes '', a bool '1' or '0'.

        Raises:
            BadScript: the names and the header's disagree.
        """
        header = self.header
        if arguments.keys() != self._names:
            raise BadScript(f"{header.name}: call and header disagree on {sorted(arguments.keys() ^ set(header.args))}")
        tail = tuple(rest)
        if tail and not header.rest:
            raise BadScript(f"{header.name}: takes no further arguments")
        named = [keys.key(partition, family) for family in header.keys]
        values = [arguments[name] for name in header.args]
        # A comprehension, because it is the one that costs least for the hundreds of values of a batch.
        spelled = [
            "" if value is None else int(value) if value is True or value is False else value
            for value in (*values, *tail)
        ]
        return Call(self, len(named), (*named, *spelled))

    async def __call__(self, client: Redis, partition: int, *, rest: Iterable[Value] = (), **arguments: Any) -> Any:
        """Run the script; loads it first where Redis does not know it."""
        return (await run_all(client, [self.bind(partition, rest=rest, **arguments)]))[0]


_used: WeakKeyDictionary[Redis, set[Script]] = WeakKeyDictionary()
"""Which scripts a client has loaded once; Redis may have forgotten them since."""


@cache
def load(package: str, name: str) -> Script:
    """Load a script once per process."""
    return Script(package, name)


async def run_all(client: Redis, calls: Sequence[Call]) -> list[Any]:
    """Send scripts in one round trip and return their answers in order.

    Scripts this client has not used yet are loaded first, in the same round trip. Scripts are idempotent by design, so when Redis
    has forgotten them (restart, SCRIPT FLUSH) all are loaded and sent again, in order.

    Raises:
        redis.exceptions.RedisError: the first error any of them answered; the others have been executed.
    """
    if not calls:
        return []
    used = _used.setdefault(client, set())
    scripts = dict.fromkeys(call.script for call in calls)
    answers = await _send(client, calls, [script for script in scripts if script not in used])
    if any(isinstance(answer, NoScriptError) for answer in answers):
        answers = await _send(client, calls, list(scripts))
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


async def _send(client: Redis, calls: Sequence[Call], unknown: Sequence[Script]) -> list[Any]:
    if type(client) is not Redis:
        # To each by itself, because every node of a cluster gets them.
        for script in unknown:
            await client.script_load(script.text)
        _used[client].update(unknown)
        unknown = ()
    loads = [("SCRIPT LOAD", script.text) for script in unknown]
    answers = await send_all(
        client, [*loads, *(("EVALSHA", call.script.sha, call.numkeys, *call.arguments) for call in calls)]
    )
    for answer in answers[: len(unknown)]:
        if isinstance(answer, Exception):
            raise answer
    _used[client].update(unknown)
    return answers[len(unknown) :]
