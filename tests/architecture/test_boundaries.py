"""Who may import, call and spell what; how large a part may grow; where everything has its place."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from redis.asyncio import Redis

from penstock import keys
from tests.architecture.source import (
    PENSTOCK,
    ROOT,
    SERVICES,
    at,
    imports,
    includes,
    modules,
    named,
    scripts,
    services,
    texts,
    tree,
)

ROOMS = {"__init__.py", "__main__.py", "app.py", "settings.py", "handlers.py", "rules.py", "store.py", "lua"}
TOP_LEVEL = {"pyproject.toml", "README.md", "compose.yaml", "LICENSE", "CHANGELOG.md", "services", "shared", "tests"}
MAX_MODULE_LINES = 350
MAX_SCRIPT_LINES = 100
MAX_INCLUDE_LINES = 130

DOORS = {
    "penstock/bus/": "streams, groups, pending entries and replies are what the bus is",
    "penstock/lua.py": "sends scripts",
    "penstock/client/store.py": "the SDK reads what commands do not answer",
    "penstock/client/run_store.py": "the SDK reads runs",
    "penstock/client/waiting_store.py": "the SDK reads what waits and what holds slots",
    "penstock/client/deployment_store.py": "the SDK reads deployments, which may lie in any partition",
    "penstock/client/events.py": "the SDK follows the event stream",
    "penstock/client/logs.py": "the SDK reads the output of runs",
    "penstock/client/dead_letters.py": "the SDK reads and empties the dead letters",
    "penstock/worker/inbox.py": "a worker reads its own inbox",
    "penstock/worker/output.py": "a worker writes the output of its own runs",
    "penstock/cli/embedded_redis.py": "starts a server and waits until it answers",
}
"""Besides every service's ``store.py``: who may send commands to Redis or form keys, and why."""
HANDED_ON = {"aclose", "pipeline", "command"}
"""What may be called anywhere: whoever opened a client closes it; a pipeline's commands are checked as a client's; an embedded
server tells the command line that starts it."""
COMMANDS = {name for name, _ in inspect.getmembers(Redis, callable) if not name.startswith("_")} - HANDED_ON
CLIENTS = {"client", "redis", "pipe", "pipeline", "connection"}
"""Names that mean a client or a pipeline, with or without a leading underscore, besides those annotated as one."""


def is_door(path: Path) -> bool:
    if path.is_relative_to(SERVICES):
        return path.name == "store.py"
    inside = path.relative_to(PENSTOCK.parent).as_posix()
    return any(inside == door or (door.endswith("/") and inside.startswith(door)) for door in DOORS)


def inside_walls() -> list[Path]:
    return [path for path in modules(SERVICES, PENSTOCK) if not is_door(path)]


def annotated_clients(path: Path) -> set[str]:
    """Names a module annotates as a client or pipeline of redis-py."""
    found = set()
    for node in ast.walk(tree(path)):
        annotation, name = None, ""
        if isinstance(node, ast.arg):
            annotation, name = node.annotation, node.arg
        elif isinstance(node, ast.AnnAssign):
            annotation, name = node.annotation, ast.unparse(node.target).rpartition(".")[2]
        if annotation is not None and re.search(r"\b(Redis|RedisCluster|Pipeline)\b", ast.unparse(annotation)):
            found.add(name.lstrip("_"))
    return found


def test_services_do_not_import_each_other() -> None:
    wrong = [
        f"{at(path, node)}: {name}"
        for path in modules(SERVICES)
        for name, node in imports(path)
        if name.startswith("services.") and name.split(".")[1] != path.relative_to(SERVICES).parts[0]
    ]
    assert wrong == []


def test_the_library_does_not_import_services() -> None:
    wrong = [
        f"{at(path, node)}: {name}"
        for path in modules(PENSTOCK)
        for name, node in imports(path)
        if name.split(".")[0] in {"services", "tests"}
    ]
    assert wrong == []


def test_only_wiring_and_bus_know_faststream() -> None:
    wrong = [
        f"{at(path, node)}: {name}"
        for path in modules(SERVICES, PENSTOCK)
        for name, node in imports(path)
        if name.split(".")[0] == "faststream"
        and not (path.is_relative_to(PENSTOCK / "bus") or (path.is_relative_to(SERVICES) and path.name == "app.py"))
    ]
    assert wrong == []


def test_contracts_know_nothing_of_redis_and_services() -> None:
    allowed = ("penstock.contracts", "penstock.keys", "penstock.errors", "penstock.streams")
    wrong = [
        f"{at(path, node)}: {name}"
        for path in modules(PENSTOCK / "contracts")
        for name, node in imports(path)
        if name.split(".")[0] in {"redis", "faststream"}
        or (name.startswith("penstock.") and not name.startswith(allowed))
    ]
    assert wrong == []


def test_rules_are_pure() -> None:
    impure = {"redis", "asyncio", "time", "random", "secrets", "os", "socket", "structlog", "faststream", "uuid"}
    wrong = [
        f"{at(path, node)}: {name}"
        for path in SERVICES.glob("*/rules.py")
        for name, node in imports(path, typing_too=False)
        if name.split(".")[0] in impure or name.startswith(("penstock.bus", "penstock.lua", "penstock.client"))
    ]
    assert wrong == []


def test_only_doors_send_commands_to_redis() -> None:
    wrong = []
    for path in inside_walls():
        clients = CLIENTS | annotated_clients(path)
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in COMMANDS:
                owner = ast.unparse(node.func.value).rpartition(".")[2].lstrip("_")
                if owner in clients:
                    wrong.append(f"{at(path, node)}: {ast.unparse(node.func)}")
    assert wrong == []


def test_only_doors_open_the_client_library() -> None:
    wrong = [
        f"{at(path, node)}: {name}"
        for path in inside_walls()
        for name, node in imports(path, typing_too=False)
        if name.split(".")[0] == "redis" and not name.startswith("redis.exceptions")
    ]
    assert wrong == []


def test_only_doors_form_keys() -> None:
    wrong = [
        at(path, node)
        for path in inside_walls()
        if path != PENSTOCK / "keys.py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"keys.key", "key"} and len(node.args) > 1
    ]
    assert wrong == []


def test_every_door_exists_and_is_used() -> None:
    assert [door for door in DOORS if not (PENSTOCK.parent / door).exists()] == []


PIECES = {piece for template in keys.FAMILIES.values() for piece in template.split("{}") if ":" in piece}


def test_only_one_module_spells_keys() -> None:
    wrong = [
        f"{at(path, node)}: {node.value!r}"
        for path in modules(SERVICES, PENSTOCK)
        if path != PENSTOCK / "keys.py"
        for node in texts(path)
        if re.match(r"penstock:", str(node.value)) or node.value in PIECES
    ]
    assert wrong == []


def test_no_script_spells_keys() -> None:
    wrong = []
    for path in (*scripts(), *includes()):
        code = re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8"))
        wrong += [
            f"{named(path)}: {found.group(0)}"
            for found in re.finditer(r"penstock:|\bP_\b|call\(\s*'[A-Z]+'\s*,\s*['\"][^,)]*", code)
            if not re.match(r"call\(\s*'(XINFO|XGROUP|OBJECT|MEMORY)'", found.group(0))
        ]
        wrong += [f"{named(path)}: {piece!r}" for piece in PIECES if f"'{piece}'" in code or f'"{piece}"' in code]
    assert wrong == []


@pytest.mark.parametrize("service", services(), ids=lambda path: str(path.name))
def test_every_service_has_the_same_rooms(service: Path) -> None:
    assert {path.name for path in service.iterdir()} >= ROOMS
    card = ast.get_docstring(tree(service / "__init__.py")) or ""
    assert [word for word in ("Consumes", "Emits", "Owns") if word not in card] == []


def test_names_that_say_nothing_are_not_used() -> None:
    empty = {"utils", "util", "common", "models", "helpers", "manager", "misc", "base_service"}
    assert [
        named(path) for path in modules(SERVICES, PENSTOCK) if path.stem in empty or path.parent.name in empty
    ] == []


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_modules_stay_small() -> None:
    assert [
        f"{named(path)}: {lines(path)}" for path in modules(SERVICES, PENSTOCK) if lines(path) > MAX_MODULE_LINES
    ] == []


def test_scripts_stay_small() -> None:
    assert [f"{named(path)}: {lines(path)}" for path in scripts() if lines(path) > MAX_SCRIPT_LINES] == []
    assert [f"{named(path)}: {lines(path)}" for path in includes() if lines(path) > MAX_INCLUDE_LINES] == []


def test_nothing_new_lies_at_the_top() -> None:
    found = {
        path.name for path in ROOT.iterdir() if not path.name.startswith(".") and not (path / "pyvenv.cfg").exists()
    } - {"dist", "build", "__pycache__"}
    assert found - TOP_LEVEL == set()


def test_nothing_is_left_for_later() -> None:
    later = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
    kinds = ("*.py", "*.lua", "*.md", "*.toml", "*.yaml", "Dockerfile")
    wrong = [
        f"{named(path)}:{number}"
        for folder in (SERVICES, ROOT / "shared", ROOT / "tests")
        for kind in kinds
        for path in folder.rglob(kind)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if later.search(line) and path != Path(__file__)
    ]
    assert wrong == []


BLOCKING = {
    "penstock/cli/embedded_redis.py": "waits for a server before any loop runs",
    "penstock/worker/child.py": "a run's own process waits for its due time",
    "tests/services/test_heartbeat_monitor.py": "an outage has to last",
    "tests/services/test_worker_heartbeats.py": "an event loop has to stand still",
}
"""Where ``time.sleep`` is the point."""


def test_nobody_sleeps_where_a_condition_can_be_waited_for() -> None:
    wrong = [
        at(path, node)
        for path in modules(SERVICES, PENSTOCK, ROOT / "tests")
        if not any(named(path).endswith(waits) for waits in BLOCKING)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep"}
    ]
    assert wrong == []


def links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in found if not re.match(r"[a-z]+:|#", link)]


@pytest.mark.parametrize("page", ["README.md", "shared/README.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    if not (ROOT / page).exists():
        pytest.skip(f"there is no {page}")
    folder = (ROOT / page).parent
    assert [link for link in links(ROOT / page) if not (folder / link.partition("#")[0]).exists()] == []
