"""Scripts and their surroundings: headers against calls, rules, tests, and one writer for every family of keys."""

from __future__ import annotations

import ast
import importlib
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

from penstock import keys, lua
from tests.architecture.source import PENSTOCK, ROOT, SERVICES, at, includes, modules, named, scripts, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def package_of(script: Path) -> str:
    """Dotted name of the package that has the script."""
    root = SERVICES.parent if script.is_relative_to(SERVICES) else PENSTOCK.parent
    return ".".join(script.parent.parent.relative_to(root).parts)


def loaded(module: Path) -> Iterator[tuple[str, str, str]]:
    """(variable, package, script) of every ``NAME = lua.load(package, script)`` of a module."""
    constants = {
        target.id: str(node.value.value)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    constants |= {
        ast.unparse(node.target): str(node.value.value)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree(module)):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Call):
            continue
        if ast.unparse(node.value.func) != "lua.load":
            continue
        target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        package, name = (
            str(argument.value) if isinstance(argument, ast.Constant) else constants[ast.unparse(argument)]
            for argument in node.value.args
        )
        yield target, package, name


LOADED = [(module, *found) for module in modules(SERVICES, PENSTOCK) for found in loaded(module)]


def test_every_script_is_loaded_and_every_loaded_script_exists() -> None:
    on_disk = {(package_of(script), script.stem) for script in scripts()}
    assert {(package, name) for _, _, package, name in LOADED} == on_disk


def test_scripts_are_loaded_by_the_party_that_has_them() -> None:
    wrong = [
        f"{named(module)}: {package}.{name}"
        for module, _, package, name in LOADED
        if not (
            ROOT / "shared" / package.replace(".", "/") in module.parents
            or ROOT / package.replace(".", "/") in module.parents
        )
    ]
    assert wrong == []


def test_whoever_appends_to_a_stream_says_how_long_it_may_get() -> None:
    in_lua = [
        f"{named(path)}: {call}"
        for path in (*scripts(), *includes())
        for call in re.findall(r"'XADD'.{0,80}", path.read_text(encoding="utf-8"))
        if "'MAXLEN', '~'" not in call
    ]
    in_python = [
        at(module, node)
        for module in modules(SERVICES, PENSTOCK)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "xadd"
        if "maxlen" not in {keyword.arg for keyword in node.keywords}
    ]
    assert in_lua + in_python == []


def test_every_include_is_included() -> None:
    used = {name for script in scripts() for name in lua.load(package_of(script), script.stem).header.includes}
    assert {path.stem for path in includes()} == used


SECOND_STEPS = {"cancel_in_flight": "cancel_pool cancels first what waits, then what is in flight"}
"""Scripts that are only ever a part of another method of their store."""


@pytest.mark.parametrize("script", scripts(), ids=lambda path: str(path.stem))
def test_every_script_has_a_test_of_its_own_and_the_name_of_its_method(script: Path) -> None:
    assert (ROOT / "tests" / "redis" / f"test_{script.stem}.py").exists()
    assert re.fullmatch(r"[a-z]+(_[a-z]+)+", script.stem), "a verb and what it is done to"
    if script.is_relative_to(SERVICES):
        store = script.parent.parent / "store.py"
        methods = {node.name for node in ast.walk(tree(store)) if isinstance(node, ast.AsyncFunctionDef)}
        assert {script.stem, f"_{script.stem}"} & methods or script.stem in SECOND_STEPS, (
            f"{named(store)} has no {script.stem}"
        )


class Sent(NamedTuple):
    """One call of a script as the source spells it."""

    where: str
    names: set[str]
    rest: bool


def literal_keys(module: Path, name: str) -> set[str]:
    """Keys of the dictionary that a module assigns to an attribute, for calls that hand it on as ``**name``."""
    for node in ast.walk(tree(module)):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if name in map(ast.unparse, targets) and isinstance(value := getattr(node, "value", None), ast.Dict):
            return {ast.literal_eval(key) for key in value.keys if key}
    raise AssertionError(f"{named(module)}: {name} is no dictionary written out")


def returned_keys(module: Path, call: ast.Call) -> set[str]:
    """Keys of the dictionary that ``other.function(...)`` of a module beside this one returns."""
    other, _, name = ast.unparse(call.func).rpartition(".")
    for function in ast.walk(tree(module.with_name(f"{other}.py"))):
        if (
            isinstance(function, ast.FunctionDef)
            and function.name == name
            and isinstance(function.body[-1], ast.Return)
        ):
            assert isinstance(function.body[-1].value, ast.Dict), f"{other}.{name} returns no dictionary written out"
            return {ast.literal_eval(key) for key in function.body[-1].value.keys if key}
    raise AssertionError(f"{named(module)}: there is no {other}.{name}")


def keywords(module: Path, call: ast.Call) -> set[str]:
    written_out = {keyword.arg for keyword in call.keywords if keyword.arg}
    handed_on = [keyword.value for keyword in call.keywords if keyword.arg is None]
    made = [returned_keys(module, value) for value in handed_on if isinstance(value, ast.Call)]
    from_outside = {"arguments"}  # of the function around it: its callers are looked at
    names = {ast.unparse(value) for value in handed_on if not isinstance(value, ast.Call)} - from_outside
    return written_out.union(*made, *(literal_keys(module, name) for name in names))


def is_call_of(call: ast.Call, name: str) -> bool:
    return ast.unparse(call.func) in {name, f"{name}.bind"}


def forwarded(module: Path, call: ast.Call, position: int) -> set[str]:
    """Names that a function adds when it is handed a script: those of its own call of that parameter, less its own."""
    name = ast.unparse(call.func).rpartition(".")[2]
    for function in ast.walk(tree(module)):
        if not isinstance(function, ast.AsyncFunctionDef | ast.FunctionDef) or function.name != name:
            continue
        parameters = [argument.arg for argument in function.args.args if argument.arg != "self"]
        own = {argument.arg for argument in function.args.kwonlyargs}
        for inner in ast.walk(function):
            if isinstance(inner, ast.Call) and is_call_of(inner, parameters[position]):
                return keywords(module, inner) | (own & keywords(module, inner))
    raise AssertionError(f"{at(module, call)}: cannot see what becomes of the script")


def calls(module: Path, variable: str) -> Iterator[Sent]:
    for call in ast.walk(tree(module)):
        if not isinstance(call, ast.Call):
            continue
        positions = [index for index, argument in enumerate(call.args) if ast.unparse(argument) == variable]
        if is_call_of(call, variable):
            found = keywords(module, call)
        elif positions:
            found = keywords(module, call) | forwarded(module, call, positions[0])
        else:
            continue
        yield Sent(at(module, call), found - {"rest"}, "rest" in found)


@pytest.mark.parametrize(("module", "variable", "package", "name"), LOADED, ids=[name for *_, name in LOADED])
def test_every_call_names_the_arguments_of_the_header(module: Path, variable: str, package: str, name: str) -> None:
    header = lua.load(package, name).header
    sent = list(calls(module, variable))
    assert sent, f"{variable} is never called"
    for call in sent:
        assert call.names == set(header.args), call.where
        assert not call.rest or header.rest, f"{call.where}: {name} takes no further arguments"


def rules_named(path: Path) -> list[str]:
    header = lua.parse_header(path.stem, path.read_text(encoding="utf-8"))
    if header.rule == "none":
        return []
    package = f"{package_of(path)}." if path.parent.name == "lua" else ""
    found: list[str] = []
    for word in map(str.strip, header.rule.split(",")):
        if word.startswith(("services.", "penstock.")):
            found.append(word)
        elif "." in word:
            found.append(package + word)
        else:
            found.append(f"{found[-1].rpartition('.')[0]}.{word}")
    return found


@pytest.mark.parametrize("path", [*scripts(), *includes()], ids=lambda path: str(path.stem))
def test_the_rule_a_script_names_exists_in_python(path: Path) -> None:
    for rule in rules_named(path):
        module, _, name = rule.rpartition(".")
        assert hasattr(importlib.import_module(module), name), rule


READ_COMMANDS = frozenset(
    """
    EXISTS GET TTL PTTL TYPE TIME HGET HMGET HGETALL HKEYS HVALS HLEN HEXISTS SCARD SISMEMBER SMEMBERS SDIFF SINTER SUNION
    SRANDMEMBER ZCARD ZCOUNT ZRANGE ZRANGEBYSCORE ZREVRANGE ZREVRANGEBYSCORE ZRANGEBYLEX ZSCORE ZMSCORE ZRANK ZREVRANK
    LLEN LRANGE LINDEX STRLEN XLEN XRANGE XREVRANGE XINFO XPENDING
    """.split()  # noqa: SIM905 - sixty quotes would not help the reader
)
"""Every other command counts as a write."""

SHARED_BY_DESIGN = {
    "event_ledger": "whoever makes a transition numbers its event",
    "events": "the same",
    "reply": "whoever executes a command answers it",
    "answer": "the same",
    "inbox": "the dispatcher assigns, the monitor refuses",
    "logs": "a worker writes the output of a run; the dispatcher lets it go with the run",
    "dispatch": "a stream: whoever tells the dispatcher",
    "commands": "a stream: whoever asks the registry",
}


def code_of(script: Path) -> str:
    """A script with what it includes, without comments."""
    header = lua.load(package_of(script), script.stem).header
    paths = [*(PENSTOCK / "includes" / f"{name}.lua" for name in header.includes), script]
    return "\n".join(re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8")) for path in paths)


def arguments_at(code: str, opening: int) -> list[str]:
    """The arguments between a bracket and the one that closes it."""
    depth, start = 0, opening + 1
    found: list[str] = []
    for index in range(opening, len(code)):
        if code[index] in "({[":
            depth += 1
        elif code[index] in ")}]":
            depth -= 1
            if not depth:
                return [*found, code[start:index].strip()]
        elif code[index] == "," and depth == 1:
            found.append(code[start:index].strip())
            start = index + 1
    return found


def functions(code: str) -> Iterator[tuple[str, list[str], range]]:
    """Name, parameters and extent of every function; the source is indented as the formatter would."""
    for match in re.finditer(r"^([ ]*)local function (\w+)\(([^)]*)\)(.*)$", code, re.MULTILINE):
        indent, name, parameters, rest = match.groups()
        end = match.end() if rest.rstrip().endswith(" end") else code.index(f"\n{indent}end", match.end())
        yield name, [parameter.strip() for parameter in parameters.split(",")], range(match.start(), end)


def families_in(text: str) -> set[str]:
    return set(re.findall(r"\bkey_(\w+)\(", text))


def aliases(code: str) -> list[tuple[str, set[str], range]]:
    """(variable, families whose keys it may hold, where)."""
    everywhere = range(len(code))
    found = [
        (match.group(1), families, everywhere)
        for pattern in (r"\blocal (\w+) = (key_\w+\([^\n]*)", r"\bfor \w+, (\w+) in ipairs\(\{([^}]*)\}")
        for match in re.finditer(pattern, code)
        if (families := families_in(match.group(2)))
    ]
    for name, parameters, extent in functions(code):
        for call in re.finditer(rf"(?<!function )\b{name}\(", code):
            for parameter, argument in zip(parameters, arguments_at(code, call.end() - 1), strict=False):
                if re.match(r"key_\w+\(", argument):
                    found.append((parameter, families_in(argument), extent))
    return found


def written(script: Path) -> set[str]:
    """Families a script may write: everything it names in a command that is not known to read only."""
    code = code_of(script)
    known = aliases(code)
    found: set[str] = set()
    for match in re.finditer(r"\b(?:redis\.p?call|later)\(", code):
        command, *arguments = arguments_at(code, match.end() - 1)
        if set(re.findall(r"'([A-Z]+)'", command)) <= READ_COMMANDS and re.search(r"'[A-Z]+'", command):
            continue
        for argument in arguments:
            found |= families_in(argument) if argument.startswith("key_") else set()
            found |= {
                family
                for name, families, extent in known
                if argument == name and match.start() in extent
                for family in families
            }
            found |= {argument} & set(lua.load(package_of(script), script.stem).header.keys)
    return found


def writers() -> dict[str, str]:
    """The table in the docstring of ``penstock.keys``."""
    rows = r"^(\w+) +(?:STREAM|HASH|LIST|STRING|SET|ZSET) +(.+?)  "
    return dict(re.findall(rows, keys.__doc__ or "", re.MULTILINE))


@pytest.mark.parametrize(
    "script", [path for path in scripts() if path.is_relative_to(SERVICES)], ids=lambda path: str(path.stem)
)
def test_a_script_writes_only_what_its_service_owns(script: Path) -> None:
    service = script.parent.parent.name
    owners = {**writers(), "definitions": "pool_registry"}
    assert {
        family: owners.get(family)
        for family in written(script) - set(SHARED_BY_DESIGN)
        if owners.get(family) != service
    } == {}


def test_the_analysis_sees_writes_in_every_disguise() -> None:
    """Each service writes each family the table gives it; a family nobody is seen to write means that this test is blind."""
    seen = {
        (script.parent.parent.name, family)
        for script in scripts()
        if script.is_relative_to(SERVICES)
        for family in written(script)
    }
    stores = {path.parent.name for path in SERVICES.glob("*/store.py")}
    missing = [
        (family, owner) for family, owner in writers().items() if owner in stores and (owner, family) not in seen
    ]
    assert missing == []
