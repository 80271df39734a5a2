"""What an entrypoint is found to be, without its code ever running in this process."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from penstock.errors import Invalid, NotFound, Refused
from penstock.projects.inspection import Entrypoint, inspect_entrypoint

if TYPE_CHECKING:
    from pathlib import Path

FLOW_CLASS = """
class Base:
    def __init__(self, fn, name=None):
        self.fn = fn
        self.name = name or fn.__name__.replace("_", "-")

class Flow(Base):
    pass

def flow(fn=None, *, name=None):
    return Flow(fn) if fn else lambda fn: Flow(fn, name)
"""


def inspect(directory: Path, code: str, function: str = "f", name: str = "code.py", **options: Any) -> Entrypoint:
    (directory / name).write_text(textwrap.dedent(code))
    return inspect_entrypoint(f"{name}:{function}", directory, **options)


def properties(found: Entrypoint) -> dict[str, Any]:
    assert found.schema is not None
    shown: dict[str, Any] = found.schema["properties"]
    return {name: {key: value for key, value in one.items() if key != "title"} for name, one in shown.items()}


def refused(directory: Path, code: str, function: str = "f") -> str:
    with pytest.raises(Refused) as caught:
        inspect(directory, code, function)
    return f"{caught.value.message} | {caught.value.hint}"


def test_a_plain_function_is_described_by_its_signature_and_docstring(tmp_path: Path) -> None:
    found = inspect(
        tmp_path,
        '''
        def some_work(day: str, *, count: int = 3, anything=None):
            """Load a day,
            all of it.

            More about it.
            """
        ''',
        "some_work",
    )

    assert (found.flow, found.description, found.warnings) == ("some-work", "Load a day, all of it.", [])
    assert found.schema == found.outline
    assert found.schema is not None
    assert found.schema["required"] == ["day"]
    assert found.schema["additionalProperties"] is False
    assert properties(found) == {
        "day": {"type": "string"},
        "count": {"type": "integer", "default": 3},
        "anything": {"default": None},
    }


def test_a_docstring_without_an_end_is_cut(tmp_path: Path) -> None:
    found = inspect(tmp_path, f"def f(): '{'word ' * 5000}'")

    assert found.description is not None
    assert (len(found.description), found.description[-3:]) == (2003, "...")


def test_texts_and_defaults_that_are_no_unicode_do_no_harm(tmp_path: Path) -> None:
    found = inspect(tmp_path, "def f(a: str = '\\ud800'): 'half \\ud800'")

    assert (found.description, found.warnings) == ("half ?", [])
    assert properties(found) == {"a": {"type": "string"}}


def test_annotations_of_every_common_kind_become_schemas(tmp_path: Path) -> None:
    found = inspect(
        tmp_path,
        """
        from __future__ import annotations
        import dataclasses, datetime, enum, typing
        from pydantic import BaseModel, Field

        class Color(enum.Enum):
            RED = "red"

        class Model(BaseModel):
            x: int

        @dataclasses.dataclass
        class Data:
            y: str

        def f(
            optional: typing.Optional[int],
            union: int | str,
            literal: typing.Literal["a", "b"],
            when: datetime.datetime,
            items: list[float],
            bounded: typing.Annotated[int, Field(ge=1)],
            color: Color = Color.RED,
            model: Model = Model(x=1),
            data: Data = Data("z"),
        ): ...
        """,
    )

    assert properties(found) == {
        "optional": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "union": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "literal": {"enum": ["a", "b"], "type": "string"},
        "when": {"format": "date-time", "type": "string"},
        "items": {"items": {"type": "number"}, "type": "array"},
        "bounded": {"minimum": 1, "type": "integer"},
        "color": {"$ref": "#/$defs/Color", "default": "red"},
        "model": {"$ref": "#/$defs/Model", "default": {"x": 1}},
        "data": {"$ref": "#/$defs/Data", "default": {"y": "z"}},
    }
    assert found.schema is not None
    assert sorted(found.schema["$defs"]) == ["Color", "Data", "Model"]


def test_what_pydantic_or_json_cannot_express_allows_anything(tmp_path: Path) -> None:
    found = inspect(
        tmp_path,
        """
        from __future__ import annotations
        import threading, typing
        if typing.TYPE_CHECKING:
            from nowhere import Unknown

        class Weird: ...
        def f(a: Weird, b: Unknown, c: int, d: float = float("inf"), e: object = threading.Lock(), g: typing.Any = 1): ...
        """,
    )

    assert found.warnings == []
    assert properties(found) == {
        "a": {},
        "b": {},
        "c": {"type": "integer"},
        "d": {"type": "number"},
        "e": {},
        "g": {"default": 1},
    }
    assert found.schema is not None
    assert found.schema["required"] == ["a", "b", "c"]


def test_a_type_that_contains_itself_is_not_checked_and_that_is_said(tmp_path: Path) -> None:
    found = inspect(
        tmp_path,
        """
        from __future__ import annotations
        from pydantic import BaseModel

        class Node(BaseModel):
            children: list[Node]

        class Leaf(BaseModel):
            x: int

        def f(node: Node, leaf: Leaf): ...
        """,
    )

    assert properties(found) == {"node": {}, "leaf": {"$ref": "#/$defs/Leaf"}}
    assert found.schema is not None
    assert (list(found.schema["$defs"]), found.schema["required"]) == (["Leaf"], ["node", "leaf"])
    assert ["parameter 'node' is not checked" in warning for warning in found.warnings] == [True]


def test_names_that_every_model_has_are_parameters_like_others(tmp_path: Path) -> None:
    found = inspect(tmp_path, "def f(schema: int, model_config: str, _private: int, json: int, self: int): ...")

    assert list(properties(found)) == ["schema", "model_config", "_private", "json", "self"]


def test_more_keywords_are_allowed_where_the_function_takes_them(tmp_path: Path) -> None:
    found = inspect(tmp_path, "def f(a, *args, **kwargs): ...")

    assert found.schema is not None
    assert found.schema["additionalProperties"] is True
    assert list(properties(found)) == ["a"]
    assert found.warnings == ["code.py:f: '*args' stays empty: parameters are passed by name"]


def test_a_positional_only_parameter_cannot_be_passed(tmp_path: Path) -> None:
    assert "code.py:f: its parameter 'a' is positional-only; a run passes" in refused(tmp_path, "def f(a, /): ...")
    assert inspect(tmp_path, "def f(a=1, /): ...").warnings == [
        "code.py:f: 'a' is positional-only: it always has its default, for parameters are passed by name"
    ]


def test_async_functions_decorated_ones_and_callable_objects_are_functions(tmp_path: Path) -> None:
    code = """
    import functools

    def logged(fn):
        @functools.wraps(fn)
        def inner(*args, **kwargs): return fn(*args, **kwargs)
        return inner

    async def a(x: int): ...
    @logged
    def b(x: int): ...
    class C:
        def __call__(self, x: int): ...
    c = C()
    d = functools.partial(a)
    """
    for name in "abcd":
        found = inspect(tmp_path, code, name)
        assert (found.flow, properties(found)) == (name, {"x": {"type": "integer"}})


def test_a_flow_of_prefect_is_named_as_it_names_itself(tmp_path: Path) -> None:
    (tmp_path / "prefect.py").write_text(FLOW_CLASS)
    code = """
    from prefect import flow

    @flow(name="Nightly load")
    def f(day: int): "Loads."

    @flow
    def some_work(): ...
    """

    found = inspect(tmp_path, code)

    assert (found.flow, found.description, properties(found)) == (
        "Nightly load",
        "Loads.",
        {"day": {"type": "integer"}},
    )
    assert inspect(tmp_path, code, "some_work").flow == "some-work"


def test_an_object_of_another_package_that_looks_like_a_flow_is_none(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(FLOW_CLASS)

    assert "'f' is no function, its type is Flow" in refused(tmp_path, "from other import flow\n@flow\ndef f(): ...")


def test_what_is_no_function_is_refused(tmp_path: Path) -> None:
    assert "code.py:f: 'f' is no function, its type is int" in refused(tmp_path, "f = 3")


def test_a_function_that_is_not_there_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    assert refused(tmp_path, "def helo(): ...\nx = 1", "hello") == (
        "code.py has no function 'hello' | did you mean 'helo'?"
    )
    assert refused(tmp_path, "def load(): ...\ndef store(): ...") == "code.py has no function 'f' | it has load, store"
    assert refused(tmp_path, "x = 1") == "code.py has no function 'f' | it has no functions"


def test_a_file_that_is_not_there_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("")

    with pytest.raises(NotFound, match=r"there is no file helo\.py") as caught:
        inspect_entrypoint("helo.py:f", tmp_path)
    assert caught.value.hint == "did you mean 'hello.py'?"
    (tmp_path / "flows").mkdir()
    with pytest.raises(NotFound, match="flows is a directory"):
        inspect_entrypoint("flows:f", tmp_path)


@pytest.mark.parametrize(
    ("entrypoint", "hint"),
    [
        ("hello.py", "give the function, too: hello.py:function"),
        ("hello.py:", "give the file and the function"),
        (":f", "give the file"),
        ("hello.py:a.b", "give the file"),
        ("package.module.f", "give the file"),
        ("", "give the file"),
    ],
)
def test_an_entrypoint_of_another_form_is_refused(tmp_path: Path, entrypoint: str, hint: str) -> None:
    with pytest.raises(Invalid, match="is not of the form") as caught:
        inspect_entrypoint(entrypoint, tmp_path)
    assert hint in caught.value.hint


@pytest.mark.parametrize("code", ["def f(:\n", "def f():\nreturn 1\n", "x = 'a\0b'\ndef f(): ...\n"])
def test_a_file_that_is_no_python_is_refused(tmp_path: Path, code: str) -> None:
    assert refused(tmp_path, code).startswith("code.py")


IMPORT_FAILS = """
import no_such_library
from prefect import flow

@flow(name="Nightly load")
def f(day, /, week, month=1, *, year, **more):
    "Loads."

@flow
def some_work(a): ...

@no_such_library.decorated
def g(x): ...

def outside(): ...
"""


def test_code_that_cannot_be_imported_here_is_deployed_without_a_schema(tmp_path: Path) -> None:
    found = inspect(tmp_path, IMPORT_FAILS)

    assert (found.flow, found.description, found.schema) == ("Nightly load", "Loads.", None)
    assert found.outline == {
        "type": "object",
        "properties": {"week": {}, "month": {}, "year": {}},
        "required": ["week", "year"],
        "additionalProperties": True,
    }
    (warning,) = found.warnings
    assert warning == (
        "code.py cannot be imported here: ModuleNotFoundError: No module named 'no_such_library' (line 2); "
        "deployed without a schema of its parameters"
    )
    assert inspect(tmp_path, IMPORT_FAILS, "some_work").flow == "some-work"


def test_nothing_is_certain_of_a_decorated_function_that_cannot_be_imported(tmp_path: Path) -> None:
    found = inspect(tmp_path, IMPORT_FAILS, "g")

    assert (found.flow, found.outline) == ("g", None)


def test_a_function_that_is_not_there_is_refused_although_the_import_fails(tmp_path: Path) -> None:
    assert "code.py has no function 'outsid' | did you mean 'outside'?" in refused(tmp_path, IMPORT_FAILS, "outsid")
    assert "no function 'h'" in refused(tmp_path, "import nowhere\ndef f():\n    def h(): ...", "h")


@pytest.mark.parametrize(
    "code",
    [
        "from nowhere import *",
        "from nowhere import f",
        "import nowhere as f",
        "import nowhere\nf = nowhere.make()",
        "import nowhere\nf: object = 1",
        "a, (f, b) = nowhere()",
        "try:\n    import nowhere\nfinally:\n    def f(): ...",
        "try:\n    pass\nexcept OSError:\n    def f(): ...\nimport nowhere",
        "import nowhere\nif nowhere:\n    pass\nelse:\n    async def f(): ...",
        "import nowhere\nclass f: ...",
    ],
)
def test_every_way_to_bind_a_name_counts_when_the_import_fails(tmp_path: Path, code: str) -> None:
    assert inspect(tmp_path, code).flow == "f"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise SystemExit(3)", "SystemExit: 3 (line 1)"),
        ("import os; os._exit(7)", "its process ended with code 7"),
        ("import os, sys; print('why', file=sys.stderr); sys.stderr.flush(); os.abort()", "ended with code -6: why"),
        ("raise ValueError('a' * 9000)", "ValueError: aaaa"),
        ("class E(Exception):\n    def __str__(self): raise OSError\nraise E", "E (line 3)"),
    ],
)
def test_a_file_may_fail_in_any_way(tmp_path: Path, code: str, told: str) -> None:
    warning = inspect(tmp_path, f"{code}\ndef f(): ...\n").warnings[0]

    assert told in warning
    assert len(warning) < 700


def test_an_import_that_takes_too_long_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    found = inspect(
        tmp_path,
        """
        import os, pathlib, subprocess, sys, threading
        child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
        pathlib.Path("pid").write_text(str(child.pid))
        threading.Event().wait()
        def f(): ...
        """,
        time_limit=3.0,
    )

    assert "the import took longer than 3 s" in found.warnings[0]
    pid = int((tmp_path / "pid").read_text())
    state = ""
    if os.path.exists(f"/proc/{pid}/stat"):  # noqa: PTH110 - gone at any moment
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
            state = file.read().rpartition(")")[2].split()[0]
    assert state in {"", "Z", "X"}


def test_threads_and_exit_handlers_do_not_hold_it_up(tmp_path: Path) -> None:
    found = inspect(
        tmp_path,
        """
        import threading
        threading.Thread(target=threading.Event().wait).start()
        def f(): ...
        """,
        time_limit=20.0,
    )

    assert found.warnings == []


def test_nothing_of_the_code_reaches_this_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)

    inspect(
        tmp_path,
        """
        import os, sys
        print("noise"); print("noise", file=sys.stderr); os.write(1, b"noise")
        os.environ["NOISE"] = "1"
        def f(): ...
        """,
        name="noisy_code.py",
    )

    assert tuple(capfd.readouterr()) == ("", "")
    assert "noisy_code" not in sys.modules
    assert dict(os.environ) == before


def test_it_is_imported_in_the_project_with_its_own_neighbours(tmp_path: Path) -> None:
    # Named like modules of the inspecting package and like one of the standard library.
    (tmp_path / "documents.py").write_text("KIND = int")
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "fitting.py").write_text("KIND = str")
    code = """
import importlib.util, os, fitting
assert os.path.exists("documents.py")
assert importlib.util.find_spec("documents") is None
def f(a: fitting.KIND): ...
"""
    (tmp_path / "flows" / "json.py").write_text(code)

    found = inspect_entrypoint("flows/json.py:f", tmp_path)

    assert (found.warnings, properties(found)) == ([], {"a": {"type": "string"}})
