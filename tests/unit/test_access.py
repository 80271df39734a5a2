"""Who may do what: the map agrees with the code, and lines of ACL files say what the map says."""

from __future__ import annotations

import hashlib
import importlib
import re
from typing import TYPE_CHECKING

import pytest

from penstock import keys, lua
from penstock.access import acl, grants, passwords
from penstock.access.grants import GROUP, PARTITIONS, USERS, Grant, of_user, of_worker
from penstock.access.state import IDENTS, STATE, ident
from penstock.contracts.catalogue import CHANNELS, SERVICES
from penstock.errors import Invalid
from tests.architecture.source import PENSTOCK, modules, scripts
from tests.architecture.source import SERVICES as SERVICE_FOLDERS

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.access.acl import Dialect

analysis = importlib.import_module("tests.architecture.test_scripts")


def named_in(folder: Path) -> set[str]:
    """Families that modules of a folder form keys of, whatever they do with them."""
    text = "\n".join(path.read_text() for path in modules(folder))
    return set(re.findall(r"\bkey\([^\"]*?\"(\w+)\"", text)) & keys.FAMILIES.keys()


def used_by_scripts(service: str) -> set[str]:
    found: set[str] = set()
    for script in scripts():
        if script.parent.parent.name == service:
            header = lua.load(analysis.package_of(script), script.stem).header
            included = [lua.include(name)[0] for name in header.includes]
            found |= {family for part in (header, *included) for family in part.uses} | set(header.keys)
    return found


def families(granted: list[Grant], *sides: str) -> set[str]:
    return {family for grant in granted for side in sides for family in getattr(grant, side)}


def commands_on(granted: list[Grant], family: str) -> set[str]:
    return {
        command
        for grant in granted
        if family in (*grant.reads, *grant.writes, *grant.appends)
        for command in grant.commands
    }


def test_the_map_has_every_family_once() -> None:
    assert STATE.keys() | CHANNELS.keys() == keys.FAMILIES.keys()
    assert STATE.keys() & CHANNELS.keys() == set()
    assert IDENTS.keys() <= {family for family, template in keys.FAMILIES.items() if "{}" in template}


def test_the_map_names_the_writers_of_the_table_in_keys() -> None:
    by_several = {"event_ledger", "answer"}
    table = {family: writer for family, writer in analysis.writers().items() if family in STATE}
    assert {family: access.writers[0] for family, access in STATE.items() if family not in by_several} == {
        family: writer for family, writer in table.items() if family not in by_several
    }


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_touch_what_its_code_touches(service: str) -> None:
    granted = of_user(service)
    touched = used_by_scripts(service) | named_in(SERVICE_FOLDERS / service)
    assert touched - families(granted, "reads", "writes", "appends") == set()
    written = {
        family for script in scripts() if script.parent.parent.name == service for family in analysis.written(script)
    }
    assert written - families(granted, "writes", "appends") == set()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reads_nothing_that_its_code_does_not_name(service: str) -> None:
    declared = {family for family, access in STATE.items() if service in access.readers}
    assert declared - used_by_scripts(service) - named_in(SERVICE_FOLDERS / service) == set()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_run_every_command_of_its_scripts(service: str) -> None:
    allowed = {command.partition("|")[0] for grant in of_user(service) for command in grant.commands} | {"time"}
    used = {
        command.lower()
        for script in scripts()
        if script.parent.parent.name == service
        for command in re.findall(r"redis\.p?call\(\s*'([A-Z]+)'", analysis.code_of(script))
    }
    assert used - allowed == set()


def test_a_client_may_read_what_the_sdk_reads() -> None:
    granted = of_user("client") + of_user("operator")
    assert named_in(PENSTOCK / "client") - families(granted, "reads", "writes") == set()


def test_nobody_may_run_what_administers_the_server_or_tells_of_keys_one_was_not_given() -> None:
    forbidden = {"keys", "scan", "randomkey", "sort", "flushall", "flushdb", "config", "acl", "debug", "eval", "script"}
    forbidden |= {
        "client",
        "cluster",
        "info",
        "monitor",
        "migrate",
        "restore",
        "shutdown",
        "swapdb",
        "xgroup",
        "object",
    }
    every = [grant for user in USERS for grant in of_user(user)] + of_worker(creates=True)
    assert {command for grant in every for command in grant.commands} & forbidden == set()


def test_only_services_and_whoever_retries_dead_letters_write_to_streams_of_services() -> None:
    for user in ("client", "consumer"):
        assert families(of_user(user), "writes", "appends") & {"heartbeats", "definitions", "inbox", "dead"} == set()
    assert commands_on(of_user("consumer"), "events") == set(GROUP)
    assert families(of_user("consumer"), "reads", "writes", "appends") == {"events", PARTITIONS}


def test_a_worker_writes_heartbeats_reports_and_logs_and_empties_its_inbox() -> None:
    granted = of_worker()
    assert families(granted, "appends") == {"heartbeats", "dispatch", "logs"}
    assert families(granted, "writes") == {"inbox", "reply"}
    assert commands_on(granted, "dispatch") == {"xadd"}
    assert commands_on(granted, "logs") == {"xadd", "pexpire"}
    assert commands_on(granted, "pool") & set(grants.WRITE) == set()
    assert families(of_worker(creates=True), "appends") == {"heartbeats", "dispatch", "logs", "commands"}


def test_the_globs_of_two_families_do_not_cover_each_other() -> None:
    """Else a reader or writer of one is one of the other, too; both have the same writer where that cannot be helped."""
    uuid = "0198c0de-0000-7000-8000-000000000000"
    free = {
        "inbox": "etl/w1",
        "last_applied": "deployment/hello/demo",
        "parked": f"{uuid}/{uuid}",
        **dict.fromkeys(("worker", "slots", "slots_in_flight"), f"{uuid}/w1"),
    }

    def matches(glob: str, text: str) -> bool:
        return bool(re.fullmatch("".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in glob), text))

    for family, template in keys.FAMILIES.items():
        text = keys.key(0, family, free.get(family, uuid) if "{}" in template else "")
        covering = {other for other in keys.FAMILIES if matches(keys.address(other, "{0}", ident(other)), text)}
        assert covering - {family} <= ({"slots"} if family == "slots_in_flight" else set()), family
        assert family in covering


@pytest.mark.parametrize("dialect", ["6.2", "7"])
def test_a_file_switches_the_default_user_off_and_has_one_line_for_each_user(dialect: Dialect) -> None:
    lines = acl.file(dict.fromkeys(USERS, "a password"), dialect=dialect)
    assert lines[0] == "user default off resetpass resetkeys resetchannels -@all"
    assert [line.split()[1] for line in lines[1:]] == list(USERS)
    digest = hashlib.sha256(b"a password").hexdigest()
    assert all(f" on #{digest} resetkeys resetchannels " in line for line in lines[1:])
    assert "a password" not in "\n".join(lines)


def test_a_user_without_a_password_is_switched_off() -> None:
    assert all(" off resetpass " in line for line in acl.file({}))


def test_the_old_dialect_has_nothing_that_redis_6_does_not_know() -> None:
    lines = [*acl.file({}, probe=True), acl.worker("worker", "etl", "*", None, creates=True)]
    assert not re.search(r"[()%]", "\n".join(lines))


def test_one_partition_is_spelled_out_and_a_worker_sees_only_that_of_its_pool() -> None:
    assert "{*}" not in "\n".join(acl.file({}))
    assert "penstock:{*}:events" in "\n".join(acl.file({}, partitions=4))
    partition = keys.partition_of_pool("etl", 4)
    line = acl.worker("worker", "etl", "*", None, partitions=4)
    assert set(re.findall(r"\{.\}", line)) == {f"{{{partition}}}"}


@pytest.mark.parametrize(
    ("pool", "name", "glob"),
    [
        ("etl", "w1", "etl/w1"),
        ("etl", "*", "etl/*"),
        ("etl", "gpu-*-b", "etl/gpu-*-b"),
        ("a[b]?*", "w?", r"a\[b\]\?\*/w\?"),
        ("night shift", "w 1", "night?shift/w?1"),
        ("käse", "w\\1", "käse/w\\\\1"),
    ],
)
def test_an_inbox_is_that_of_the_pool_and_only_a_star_in_the_name_stands_for_more(
    pool: str, name: str, glob: str
) -> None:
    words = acl.worker("worker", pool, name, None).split()
    assert [word for word in words if "inbox" in word] == [f"~penstock:{{0}}:inbox:{glob}"]


@pytest.mark.parametrize(
    ("pool", "name"), [("a/b", "*"), ("etl", "x/y"), ("", "*"), ("etl", ""), ("etl\nuser x on", "*")]
)
def test_a_name_that_is_none_is_refused(pool: str, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        acl.worker("worker", pool, name, None)


@pytest.mark.parametrize("user", ["a b", "a\nuser evil on nopass", "", "ä"])
def test_a_user_cannot_smuggle_anything_into_the_file(user: str) -> None:
    with pytest.raises(ValueError, match="user"):
        acl.worker(user, "etl", "*", None)


def test_a_password_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    made = passwords.keep(tmp_path / "secrets", "dispatcher")
    file = tmp_path / "secrets" / "dispatcher" / "password"
    assert len(made) >= 40
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert passwords.keep(tmp_path / "secrets", "dispatcher") == made
    assert passwords.keep(tmp_path / "secrets", "client") != made


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "0 characters"),
        ("short", "5 characters"),
        ("x" * 600, "600 characters"),
        ("aaaaaaaabbbbbbbb", "different"),
        ("with a space in the middle", "printable"),
        ("two\nlines-of-some-length", "printable"),
        ("Umlaut-ä-0123456789", "printable"),
        ("my-dispatcher-0123456789", "guessed"),
        ("The-PassWord-0123456789", "guessed"),
    ],
)
def test_a_bad_password_is_refused_without_being_quoted(text: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "dispatcher" / "password"
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(Invalid, match=why) as refused:
        passwords.keep(tmp_path, "dispatcher")
    assert not text or text not in str(refused.value)


def test_a_password_of_one_s_own_is_kept_without_the_end_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "password").write_text("0123456789-abcdef?/@:\r\n")
    assert passwords.keep(tmp_path, "client") == "0123456789-abcdef?/@:"


@pytest.mark.parametrize("user", ["../evil", "a/b", "", ".", ".."])
def test_a_user_s_directory_is_below_that_of_the_passwords(user: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="directory"):
        passwords.keep(tmp_path / "secrets", user)
    assert not (tmp_path / "secrets").exists()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match="file"):
        passwords.keep(tmp_path / "file", "client")
