"""The process that looks at one function: import its file as a run would, describe what it takes.

A script, started by path: user code runs here and nowhere else. Arguments: the file, the function, the file for the
answer. The answer is one JSON object, written whole or not at all:

``problem``    the import failed: the last line of its traceback, and where; nothing else is known
``missing``    the import went well, but there is no such function; ``known`` lists those there are
``refused``    the function cannot be called by a run; says why
``flow``       the name a Prefect flow gives itself, else the function's; ``doc`` is its docstring
``schema``     JSON Schema of its parameters; ``notes`` says what was left out of it
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import inspect
import json
import os
import sys
import typing
import warnings

from pydantic import Field, TypeAdapter, create_model
from pydantic_core import to_jsonable_python

_MAX_TOLD = 500


def load(path: str) -> object:
    """Import a file as the process of a run does: under its own name, with its directory first on the path."""
    sys.path.insert(0, os.path.dirname(path))  # noqa: PTH120 - as a run does
    sys.argv = [path]
    stem = os.path.basename(path).partition(".")[0]  # noqa: PTH119 - the same
    name = f"flow_{stem}" if stem in sys.modules or stem in sys.stdlib_module_names else stem
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None  # noqa: S101 - a file and a loader always make one
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def told(problem: BaseException, path: str) -> str:
    """Spell an exception as the last line of its traceback, and the line of the user's file it came through."""
    try:
        text = str(problem)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the failure
        text = ""
    lines = (text or "").strip().splitlines()
    line, trace = None, problem.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    said = f"{type(problem).__name__}: {lines[-1]}" if lines else type(problem).__name__
    return said[:_MAX_TOLD] + (f" (line {line})" if line else "")


def is_flow(found: object) -> bool:
    """Say whether something is a flow object of the package prefect."""
    origins = (kind.__module__.partition(".")[0] for kind in type(found).__mro__)
    return "prefect" in origins and hasattr(found, "fn") and isinstance(getattr(found, "name", None), str)


def hints(function: object, parameters: list[inspect.Parameter]) -> dict[str, object]:
    """Find the types of parameters; one that cannot be found out allows anything."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - a name only type checkers know, or anything else
        space = getattr(inspect.unwrap(function), "__globals__", {})  # type: ignore[arg-type]
        found: dict[str, object] = {}
        for one in parameters:
            try:
                is_text = isinstance(one.annotation, str)
                found[one.name] = eval(one.annotation, space) if is_text else one.annotation  # noqa: S307 - their own code
            except Exception:  # noqa: BLE001 - the same
                found[one.name] = typing.Any
        return found


def field(annotation: typing.Any, one: inspect.Parameter, alias: str) -> tuple[object, object]:
    """Make a pydantic field of a parameter; what pydantic or JSON cannot express allows anything."""
    if annotation is inspect.Parameter.empty:
        annotation = typing.Any
    try:
        TypeAdapter(annotation).json_schema()
    except Exception:  # noqa: BLE001 - any class of the user's may end here
        annotation = typing.Any
    if one.default is inspect.Parameter.empty:
        return annotation, Field(alias=alias, title=alias)
    try:
        default = to_jsonable_python(one.default)
        json.dumps(default, allow_nan=False, ensure_ascii=False).encode()
    except Exception:  # noqa: BLE001 - not required all the same
        return annotation, Field(default_factory=lambda: None, alias=alias, title=alias)
    return annotation, Field(default=default, alias=alias, title=alias)


def schema_of(parameters: list[inspect.Parameter], types: dict[str, object], *, more: bool) -> dict[str, object]:
    """Describe parameters as one object."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # By number: a parameter may be called like something every pydantic model has.
        fields: dict[str, typing.Any] = {
            f"p{number}": field(types.get(one.name, one.annotation), one, one.name)
            for number, one in enumerate(parameters)
        }
        make: typing.Any = create_model
        described: dict[str, object] = make("Parameters", **fields).model_json_schema(by_alias=True)
    schema: dict[str, object] = {"type": "object", "properties": described.get("properties", {})}
    schema |= {key: described[key] for key in ("required", "$defs") if key in described}
    json.dumps(schema, allow_nan=False)
    return schema | {"additionalProperties": more}


def describe(found: object, function: str) -> dict[str, object]:
    """Answer everything about a function."""
    name = function.replace("_", "-")
    if is_flow(found):
        name, found = found.name, found.fn  # type: ignore[attr-defined]
    elif not callable(found):
        return {"refused": f"'{function}' is no function, its type is {type(found).__name__}"}
    answer: dict[str, object] = {"flow": name, "doc": (inspect.getdoc(found) or "").encode(errors="replace").decode()}
    try:
        parameters = list(inspect.signature(found).parameters.values())  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return answer | {"schema": None, "notes": ["its signature cannot be read"]}
    kinds = {one.name: one.kind for one in parameters}
    notes = []
    for one in parameters:
        if one.kind is one.POSITIONAL_ONLY and one.default is one.empty:
            told = f"its parameter '{one.name}' is positional-only; a run passes parameters by name"
            return {"refused": told}
        if one.kind is one.POSITIONAL_ONLY:
            notes.append(
                f"'{one.name}' is positional-only: it always has its default, for parameters are passed by name"
            )
        if one.kind is one.VAR_POSITIONAL:
            notes.append(f"'*{one.name}' stays empty: parameters are passed by name")
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    more = inspect.Parameter.VAR_KEYWORD in kinds.values()
    return answer | {"schema": schema_of(named, hints(found, named), more=more), "notes": notes}


def look(path: str, function: str) -> dict[str, object]:
    """Import, find, describe."""
    try:
        module = load(path)
    except BaseException as problem:  # noqa: BLE001 - also a file that exits
        return {"problem": told(problem, path)}
    if not hasattr(module, function):
        known = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        return {"missing": True, "known": known}
    try:
        return describe(getattr(module, function), function)
    except BaseException as problem:  # noqa: BLE001 - classes of the user's may do anything when they are looked at
        return {"problem": told(problem, path)}


def main() -> None:
    """Do what the arguments say, and end although threads may live."""
    path, function, answer = sys.argv[1:4]
    found = json.dumps(look(path, function), default=str)
    with open(f"{answer}.part", "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(found)
    os.replace(f"{answer}.part", answer)  # noqa: PTH105
    os._exit(0)


if __name__ == "__main__":
    main()
