"""Command lines around JSON, YAML and times that people get wrong: what is typed, what the files say, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.system.fuzz.samples import DEPLOYED, POOL, PROJECT, SCALARS, TEMPLATE, WORDS, YAML
from tests.system.fuzz.values import HOSTILE, spell

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.system.fuzz.mutations import Mutator


@dataclass(frozen=True)
class Typed:
    """One command.

    Attributes:
        words: what is typed after ``penstock``.
        files: name -> content, in the directory it is typed in.
        good: nothing is wrong with it.
        names: one of these must stand in what is said of a failure.
    """

    words: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict)
    good: bool = False
    names: tuple[str, ...] = ()


class CommandLines:
    """Makes command lines.

    Args:
        chance: decides.
        mutator: breaks what files say.
    """

    def __init__(self, chance: Random, mutator: Mutator) -> None:
        self._chance, self._mutator = chance, mutator
        self._made: list[Callable[[], Typed]] = [
            *[self._lint] * 4,
            *[self._render] * 4,
            *[self._pool] * 2,
            *[self._project] * 6,
            self._params,
            self._submit,
            self._schedule,
            self._change_schedule,
            self._deploy,
            self._tail,
            self._dead,
        ]

    def make(self) -> Typed:
        """Make one; about one in eight is right."""
        return self._chance.choice(self._made)()

    def _json(self, value: dict[str, Any]) -> tuple[bytes, bool]:
        lot = self._chance.random()
        if lot < 0.12:
            return spell(value).encode(), True
        if lot < 0.7:
            return spell(self._mutator.changed(value)).encode(), False
        if lot < 0.97:
            return self._mutator.text(value), False
        return self._chance.randbytes(self._chance.choice((0, 1, 50, 2000))), False

    def _word(self) -> str:
        lot = self._chance.random()
        if lot < 0.5:
            return self._chance.choice(WORDS)
        if lot < 0.8:
            return _typeable(self._chance.choice(HOSTILE))
        if lot < 0.9:
            return _typeable(f"a={spell(self._mutator.nasty())}"[:100_000])
        word = self._chance.choice(WORDS)
        at = self._chance.randrange(len(word) + 1)
        return word[:at] + self._chance.choice("0123456789*/-,=.:{}[]TZ \u00e9\u0663\n") + word[at:]

    def _pairs(self, option: str) -> list[str]:
        return [part for _ in range(self._chance.choice((0, 1, 1, 2))) for part in (option, self._word())]

    def _lint(self) -> Typed:
        content, good = self._json(TEMPLATE)
        return Typed(("template", "lint", "template.json"), {"template.json": content}, good, ("template.json", "FILE"))

    def _render(self) -> Typed:
        content, good = self._json(TEMPLATE)
        words, files = ["template", "render", "template.json"], {"template.json": content}
        if self._chance.random() < 0.5:
            files["vars.json"], right = self._json({"command": "ls", "tag": 7, "env": {"B": "c"}})
            words += ["--vars", "vars.json"]
            good = good and right
        given = self._pairs("--var")
        return Typed((*words, *given), files, good and not given)

    def _pool(self) -> Typed:
        content, good = self._json(TEMPLATE)
        which = self._chance.choice(
            (
                ("update", POOL),
                ("create", POOL, "--overwrite"),
                ("create", f"inputs-{self._chance.randrange(9)}", "--if-missing"),
            )
        )
        words = ("work-pool", *which, "--base-job-template", "template.json")
        return Typed(words, {"template.json": content}, good, ("template.json", "--base-job-template"))

    def _project(self) -> Typed:
        name = self._chance.choice(("penstock.yaml", "prefect.yaml"))
        if self._chance.random() < 0.5:
            content, good = self._json(PROJECT)
        else:
            content, good = self._yaml()
        return Typed(("deploy", "--all"), {name: content}, good, (name,))

    def _yaml(self) -> tuple[bytes, bool]:
        if self._chance.random() < 0.1:
            return YAML.encode(), True
        lines = YAML.splitlines()
        for _ in range(self._chance.randint(1, 3)):
            at = self._chance.randrange(len(lines))
            lot = self._chance.random()
            if lot < 0.25:
                del lines[at]
            elif lot < 0.5:
                key, colon, _ = lines[at].partition(":")
                lines[at] = f"{key}{colon} {self._chance.choice(SCALARS)}"
            elif lot < 0.7:
                lines[at] = "  " * self._chance.randint(0, 4) + lines[at].lstrip()
            elif lot < 0.85:
                lines.insert(at, self._chance.choice(lines))
            else:
                where = self._chance.randrange(len(lines[at]) + 1)
                lines[at] = (
                    lines[at][:where]
                    + self._chance.choice("{}[]:*&!|>%@`'\"\t,#-?\u00e9\x07\u2028")
                    + lines[at][where:]
                )
        content = ("\n".join(lines) + "\n").encode()
        if self._chance.random() < 0.1:
            at = self._chance.randrange(len(content))
            content = content[:at] + self._chance.choice((b"\xff", b"\x00", b"\xed\xa0\x80")) + content[at:]
        return content, False

    def _params(self) -> Typed:
        content, _ = self._json({"day": "today", "deep": {"a": [1, {"b": None}]}, "n": 7})
        if self._chance.random() < 0.5:
            given, files = "@params.json", {"params.json": content}
        else:
            given, files = _typeable(content.decode(errors="replace")), {}
        words = self._chance.choice(
            (("flow-run", "submit", "-p", POOL, "--command", "true"), ("deployment", "run", DEPLOYED))
        )
        return Typed((*words, "--params", given, *self._pairs("--param")), files)

    def _submit(self) -> Typed:
        words = ["flow-run", "submit", "-p", POOL, "--command", self._word() if self._chance.random() < 0.3 else "true"]
        for option in ("--param", "--job-variable", "--env", "--at", "--name", "--queue"):
            if self._chance.random() < 0.35:
                words += [option, self._word()]
        return Typed(tuple(words))

    def _when(self) -> list[str]:
        words = []
        for option in (
            "--cron",
            "--interval",
            "--rrule",
            "--timezone",
            "--anchor-date",
            "--catch-up",
            "--param",
            "--slug",
        ):
            if self._chance.random() < 0.3:
                words += [option, self._word()]
        return words

    def _schedule(self) -> Typed:
        return Typed(("deployment", "schedule", "create", DEPLOYED, *self._when()))

    def _change_schedule(self) -> Typed:
        which = self._word() if self._chance.random() < 0.3 else "1"
        return Typed(("deployment", "schedule", "update", DEPLOYED, which, *self._when()))

    def _deploy(self) -> Typed:
        words = ["deploy", "--command", "true", "--flow", "hello", "-n", "inputs", "-p", POOL]
        for option in (
            "--cron",
            "--interval",
            "--rrule",
            "--timezone",
            "--retry-delay",
            "--retries",
            "--job-variable",
            "--param",
        ):
            if self._chance.random() < 0.3:
                words += [option, self._word()]
        return Typed(tuple(words))

    def _tail(self) -> Typed:
        words = ["events", "tail", "--no-follow", "--limit", "1", "--filter", self._word()]
        return Typed((*words, *(["--since", self._word()] if self._chance.random() < 0.6 else [])))

    def _dead(self) -> Typed:
        return Typed(("dead", self._chance.choice(("retry", "show", "drop")), self._word()))


def _typeable(text: str) -> str:
    """No argument of a process can hold a null character, or half of a surrogate pair."""
    return text.replace("\x00", "").encode(errors="replace").decode()
