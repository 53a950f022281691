"""Typed configs: what a job or a command was told, checked before anything starts.

Every config derives from `Config`: frozen, keyword-only, unknown fields refused. `check` turns plain values into one
and turns pydantic's complaint into ours: which field, what it got, what it wants, and the field that was probably
meant.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import runpy
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cineray.errors import FieldsClash, UnknownField, UsageError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of all configs; a docstring under each field says what it decides."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    def digest(self) -> str:
        """A short name of exactly these values: the same config has the same digest on every machine."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def check(kind: type[C], values: Mapping[str, Any]) -> C:
    """Build a config, or raise one UsageError that names every field that is wrong."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        problems = error.errors()
        told = "\n".join(_complaint(kind, problem) for problem in problems)
        if any(problem["type"] == "extra_forbidden" for problem in problems):
            raise UnknownField(told) from None
        raise (FieldsClash if all(map(_is_of_several_fields, problems)) else UsageError)(told) from None


def load_job(path: str | Path, kinds: Mapping[str, type[Config]], sets: Sequence[str] = ()) -> Config:
    """The config of a job: what `job()` of a Python file returns, or a YAML record of one, with `a.b=c` laid over it.

    `kinds` names the configs that a YAML record may be of; a Python file says it by what it returns.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(
            f"there is no job at {path}; wanted a Python file with a function job(), a job's YAML, or a run's folder"
        )
    if file.suffix == ".py":
        job = _python_job(file)
    elif file.suffix in (".yaml", ".yml"):
        job = job_from_yaml(file.read_text(), kinds, where=str(file))
    else:
        raise UsageError(
            f"{path} is neither .py nor .yaml; wanted a Python file with a function job(), or a job's YAML"
        )
    return override(job, sets)


def _python_job(file: Path) -> Config:
    """A job is code of the user's own, run like any program of theirs; what it says wrongly of a config is told as in a
    YAML record, with the line."""
    try:
        make = runpy.run_path(str(file), run_name="cineray_job").get("job")
        if not callable(make):
            raise UsageError(f"{file} has no function job(); it must define one that returns a whole config")
        job = make()
    except ValidationError as error:
        kind = next((one for one in _kinds_of(Config) if one.__name__ == error.title), Config)
        line = next((f", line {at.lineno}" for at in _reversed_calls(error) if at.filename == str(file)), "")
        told = "\n".join(_complaint(kind, problem) for problem in error.errors())
        raise UsageError(f"{file}{line}: {error.title}: {told}") from None
    if not isinstance(job, Config):
        raise UsageError(f"job() in {file} returned a {type(job).__name__}; it must return a config of cineray")
    return job


def _kinds_of(kind: type[Config]) -> Iterator[type[Config]]:
    for one in kind.__subclasses__():
        yield one
        yield from _kinds_of(one)


def _reversed_calls(error: ValidationError) -> Iterator[traceback.FrameSummary]:
    return reversed(traceback.extract_tb(error.__traceback__))


def job_from_yaml(text: str, kinds: Mapping[str, type[Config]], *, where: str) -> Config:
    """The job that a YAML record describes; `where` names the record in complaints."""
    import yaml

    try:
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is not valid YAML: {error}") from None
    kind = told.pop("kind", None) if isinstance(told, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise UsageError(f"{where} says kind: {kind!r}; wanted one of {', '.join(sorted(kinds))}")
    return check(kinds[kind], told)


def job_to_yaml(job: Config, kinds: Mapping[str, type[Config]]) -> str:
    """A job's record: every field as it was resolved. It is itself accepted wherever a job is."""
    import yaml

    kind = next(name for name, config in kinds.items() if type(job) is config)
    text: str = yaml.safe_dump({"kind": kind, **job.model_dump(mode="json")}, sort_keys=False, allow_unicode=True)
    return text


def override(job: C, sets: Sequence[str]) -> C:
    """The config with fields replaced: `recipe.sampling.mode=fps`, `recipe.datasets.0.split=null`. Values are YAML."""
    import yaml

    if not sets:
        return job
    told: list[tuple[str, Any]] = []
    for text in sets:
        path, sign, value = text.partition("=")
        if not sign or not path.strip():
            raise UsageError(f"--set got {text!r}; it wants FIELD=VALUE, such as --set recipe.batch_size=8")
        try:
            told.append((path.strip(), yaml.safe_load(value)))
        except yaml.YAMLError:
            raise UsageError(f"--set {path} got {value!r}, which is not a value; quote text that has : or #") from None
    return with_fields(job, told, who="--set ")


def with_fields(job: C, fields: Iterable[tuple[str, Any]], *, who: str = "") -> C:
    """The config with fields replaced by plain values, one after the other; `who` begins a complaint."""
    values = job.model_dump(mode="json")
    for path, value in fields:
        _put(values, path.split("."), value, who)
    return check(type(job), values)


def _put(values: Any, path: list[str], value: Any, who: str) -> None:
    at = values
    for depth, name in enumerate(path):
        last = depth == len(path) - 1
        key: Any = int(name) if isinstance(at, list) and name.isdecimal() else name
        known = range(len(at)) if isinstance(at, list) else at if isinstance(at, dict) else ()
        if key not in known:
            near = difflib.get_close_matches(name, [str(k) for k in known], n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"it has: {', '.join(map(str, known)) or 'no fields'}"
            within = ".".join(path[:depth]) or "the job"
            raise UnknownField(f"{who}{'.'.join(path)}: `{within}` has no `{name}`; {hint}")
        if last:
            at[key] = value
        at = at[key]


def _is_of_several_fields(problem: Any) -> bool:
    """Was it a config as a whole that was refused, or lacked something, and not a value of one of its fields?"""
    whole = problem["type"] == "value_error" and isinstance(problem["input"], Mapping | Config)
    return whole or problem["type"] == "missing"


def _complaint(kind: type[Config], problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    told = problem["msg"].removeprefix("Value error, ")
    if not path:
        return str(told)  # a check of several fields names them itself
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path.split(".")[-1], kind.model_fields, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"it has: {', '.join(kind.model_fields)}"
        return f"{kind.__name__} has no field `{path}`; {hint}"
    return f"{path} got {problem['input']!r}: {told}"
