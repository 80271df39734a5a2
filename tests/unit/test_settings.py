"""Settings: what is mistyped is an error that names what was meant."""

from __future__ import annotations

import os

import pytest
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from penstock.errors import BadSettings
from penstock.settings import Settings


class GatewaySettings(Settings):
    """A party with a prefix of its own."""

    model_config = SettingsConfigDict(env_prefix="PENSTOCK_GATEWAY_")
    party = "GATEWAY"

    max_clients: int = 100


class SchedulerSettings(Settings):
    """A party that names its variables one by one."""

    party = "SCHEDULER"

    horizon: int = Field(60, validation_alias="PENSTOCK_SCHEDULER_HORIZON")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("PENSTOCK_"):
            monkeypatch.delenv(name)


def test_without_variables_the_defaults_hold() -> None:
    settings = Settings.read()
    assert (settings.redis_url, settings.partitions, settings.log_level) == ("redis://127.0.0.1:6379/0", 1, "info")


def test_a_variable_is_read_and_the_command_line_wins_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PARTITIONS", "16")
    assert Settings.read().partitions == 16
    assert Settings.read(partitions=2).partitions == 2
    assert Settings.read(partitions=None).partitions == 16, "None means: not given"


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("PENSTOCK_REDIS_ULR", "PENSTOCK_REDIS_URL"),
        ("PENSTOCK_PARTITION", "PENSTOCK_PARTITIONS"),
        ("PENSTOCK_LOGLEVEL", "PENSTOCK_LOG_LEVEL"),
        ("PENSTOCK_GATEWAY_MAX_CLIENT", "PENSTOCK_GATEWAY_MAX_CLIENTS"),
        ("penstock_redis_ulr", "PENSTOCK_REDIS_URL"),
    ],
)
def test_an_unknown_variable_is_an_error_that_names_the_close_one(
    monkeypatch: pytest.MonkeyPatch, name: str, close: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(BadSettings, match=f"unknown variable {name}; did you mean {close}\\?"):
        Settings.read()


def test_an_unknown_variable_like_no_other_is_still_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_XYZZY", "1")
    with pytest.raises(BadSettings, match=r"unknown variable PENSTOCK_XYZZY$"):
        Settings.read()


def test_variables_of_a_party_that_is_not_here_are_its_own_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_UP_WHATEVER", "1")
    Settings.read()


def test_variables_of_a_run_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_RUN_ID", "1")
    monkeypatch.setenv("PENSTOCK_PARAM_DAY", "1")
    Settings.read()


def test_variables_of_others_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PENSTOCK_THING", "1")
    Settings.read()


@pytest.mark.parametrize(
    ("settings_class", "variable", "field"),
    [
        (GatewaySettings, "PENSTOCK_GATEWAY_MAX_CLIENTS", "max_clients"),
        (SchedulerSettings, "PENSTOCK_SCHEDULER_HORIZON", "horizon"),
    ],
)
def test_a_party_reads_its_own_and_the_common_variables(
    monkeypatch: pytest.MonkeyPatch, settings_class: type[Settings], variable: str, field: str
) -> None:
    monkeypatch.setenv(variable, "7")
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://elsewhere:1/2")
    settings = settings_class.read()
    assert getattr(settings, field) == 7
    assert settings.redis_url == "redis://elsewhere:1/2"
    assert getattr(settings_class.read(**{field: 8}), field) == 8
    Settings.read()


def test_a_common_variable_under_a_partys_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_GATEWAY_REDIS_URL", "redis://x")
    with pytest.raises(BadSettings, match="PENSTOCK_GATEWAY_REDIS_URL"):
        GatewaySettings.read()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PENSTOCK_PARTITIONS", "0"),
        ("PENSTOCK_PARTITIONS", "1025"),
        ("PENSTOCK_PARTITIONS", "many"),
        ("PENSTOCK_LOG_LEVEL", "loud"),
        ("PENSTOCK_LOG_FORMAT", "xml"),
        ("PENSTOCK_HEALTH_PORT", "70000"),
        ("PENSTOCK_REDIS_URL", "http://localhost"),
        ("PENSTOCK_REDIS_URL", "redis://localhost:port"),
        ("PENSTOCK_REDIS_URL", "redis://localhost?decode_responses=true"),
        ("PENSTOCK_REDIS_URL", "redis://localhost?protocol=3"),
        ("PENSTOCK_REDIS_URL", ""),
        ("PENSTOCK_GATEWAY_MAX_CLIENTS", "x"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_variable_and_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSettings, match=variable) as caught:
        GatewaySettings.read()
    assert repr(value) in str(caught.value)


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PARTITIONS", "x")
    monkeypatch.setenv("PENSTOCK_LOG_LEVEL", "x")
    with pytest.raises(BadSettings, match=r"PARTITIONS.*LOG_LEVEL"):
        Settings.read()


def test_a_password_does_not_end_up_in_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "http://user:secret@host")
    with pytest.raises(BadSettings) as caught:
        Settings.read()
    assert "secret" not in str(caught.value)


def test_settings_do_not_change_after_the_start() -> None:
    settings = Settings.read()
    with pytest.raises(ValueError, match="frozen"):
        settings.partitions = 3  # type: ignore[misc]


def test_a_variable_of_the_compose_file_disturbs_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_REDIS_PORT", "7000")
    assert Settings.read().redis_url == "redis://127.0.0.1:6379/0"
