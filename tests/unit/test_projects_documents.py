"""YAML is read as plain data; what is wrong is told with its line."""

from __future__ import annotations

import pytest

from penstock.errors import Invalid
from penstock.projects.documents import MAX_BYTES, MAX_VALUES, read_document


def read(text: str | bytes) -> object:
    return read_document("prefect.yaml", text if isinstance(text, bytes) else text.encode()).value


def refused(text: str | bytes) -> str:
    with pytest.raises(Invalid) as caught:
        read(text)
    return f"{caught.value.message} | {caught.value.hint}"


def test_mappings_lists_and_plain_values_are_read_as_json_has_them() -> None:
    text = "a: 1\nb: [1.5, yes, null, x]\nc: {d: 2026-01-31}\ne: 2026-01-31T08:00:00+01:00\n"

    assert read(text) == {
        "a": 1,
        "b": [1.5, True, None, "x"],
        "c": {"d": "2026-01-31"},
        "e": "2026-01-31T08:00:00+01:00",
    }


def test_an_empty_file_holds_nothing() -> None:
    assert read("") is None
    assert read("# a comment\n") is None


def test_a_key_is_the_text_that_was_typed() -> None:
    assert read("on: 1\n2: x\nnull: y\n") == {"on": 1, "2": "x", "null": "y"}


def test_every_value_knows_its_line_and_numbers_know_how_they_were_typed() -> None:
    document = read_document("prefect.yaml", b"a:\n- b: x\n  version: 1.10\n")

    assert document.at(("a", 0, "version")) == "prefect.yaml:3"
    assert document.at(("a", 0, "unknown")) == "prefect.yaml:2"
    assert document.written(("a", 0, "version")) == "1.10"
    assert document.written(("a", 0, "b")) is None


def test_anchors_aliases_and_merges_stand_for_their_values() -> None:
    text = "definitions:\n  s: &s {cron: '0 6 * * *', slug: a}\none: *s\ntwo:\n  <<: *s\n  slug: b\n"

    assert read(text) == {
        "definitions": {"s": {"cron": "0 6 * * *", "slug": "a"}},
        "one": {"cron": "0 6 * * *", "slug": "a"},
        "two": {"cron": "0 6 * * *", "slug": "b"},
    }


def test_the_first_of_several_merged_mappings_wins() -> None:
    assert read("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc:\n  <<: [*a, *b]\n") == {
        "a": {"x": 1},
        "b": {"x": 2, "y": 2},
        "c": {"x": 1, "y": 2},
    }


@pytest.mark.parametrize("text", ["a: &a\n  b: *a\n", "a: &a\n- *a\n", "a: 1\nb: &b\n  c: [{d: *b}]\n"])
def test_a_value_that_contains_itself_is_refused(text: str) -> None:
    assert "contains itself by an alias" in refused(text)


def test_aliases_of_aliases_are_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]

    assert f"more than {MAX_VALUES:,} values" in refused("\n".join(lines))


def test_deep_nesting_is_refused_without_exhausting_the_stack() -> None:
    assert "nested deeper than 64 levels" in refused("[" * 70 + "]" * 70)
    assert "nested deeper than 64 levels" in refused("[" * 20_000)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3\n", "prefect.yaml:3: the key 'a' is here twice; it stands on line 1 already"),
        ("a:\n  b: 1\n  b: 2\n", "prefect.yaml:3: the key 'b' is here twice; it stands on line 2 already"),
        ("a: 1\n\tb: 2\n", "prefect.yaml:2: a tab where none may be | indent with spaces"),
        ("a: [1, 2\nb: 3\n", "prefect.yaml:2: "),
        ("a:\n- cron: * * * * *\n", "prefect.yaml:2: the cron * * * * * has to be quoted | write cron: '* * * * *'"),
        ("a: [{cron: */5 * * * *}]\n", "the cron */5 * * * * has to be quoted | write cron: '*/5 * * * *'"),
        ("a:\n  cron: @hourly # often\n", "prefect.yaml:2: the cron @hourly has to be quoted | write cron: '@hourly'"),
        ("a: 1\n---\nb: 2\n", "prefect.yaml:2: but found another document"),
        ("a: !!python/object:os.system {}\n", "prefect.yaml:1: the tag '!!python/object:os.system' is not taken"),
        ("a: !!python/name:os.system ''\n", "prefect.yaml:1: the tag '!!python/name:os.system' is not taken"),
        ("a: !!binary aGVsbG8=\n", "prefect.yaml:1: the tag '!!binary' is not taken"),
        ("a: !!set {x}\n", "prefect.yaml:1: the tag '!!set' is not taken"),
        ("a: 1\nb: .inf\n", "prefect.yaml:2: '.inf' is a number JSON does not have"),
        ("a: 99999999999999999999\n", "does not fit 64 bits"),
        ("a: 2026-13-45\n", "prefect.yaml:1: '2026-13-45' is no timestamp"),
        ("? [a, b]\n: 1\n", "prefect.yaml:1: a key has to be a text"),
        ("a: 1\n<<: 2\n", "prefect.yaml:2: '<<' takes a mapping or a list of mappings"),
        ('a: "\\uD800"\n', "prefect.yaml:1: half a surrogate pair is no text"),
        ("a: *b\n", "prefect.yaml:1: found undefined alias 'b'"),
        (b"a: 1\nb: caf\xe9\n", "prefect.yaml:2: byte 11 is not UTF-8 | save the file as UTF-8"),
        (b"a: 1\nb: \x07\n", "prefect.yaml:2: a character that YAML does not allow"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str | bytes, told: str) -> None:
    assert told in refused(text)


def test_a_file_that_is_too_large_is_not_parsed() -> None:
    assert "at most 1,000,000 are read" in refused(b"a" * (MAX_BYTES + 1))


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert read(b"\xef\xbb\xbfa: 1\n") == {"a": 1}
