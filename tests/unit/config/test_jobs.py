"""Jobs: a file with one function, overridden field by field, and repeated from its own record."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from cineray.config import Config, job_to_yaml, load_job, override
from cineray.errors import UsageError


class Inner(Config):
    """A part."""

    size: int = Field(default=1, ge=1)
    names: tuple[str, ...] = ("a", "b")


class Job(Config):
    """A whole."""

    title: str = "x"
    inner: Inner = Inner()
    parts: tuple[Inner, ...] = (Inner(), Inner(size=2))


KINDS: dict[str, type[Config]] = {"demo": Job}


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.py"
    path.write_text("from cineray.plan import Recipe\ndef job():\n    return Recipe(batch_size=4)\n")
    return path


def test_a_python_job_is_what_its_function_returns(job_file: Path) -> None:
    job = load_job(job_file, {})

    assert job.model_dump()["batch_size"] == 4


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("at=3", "line 4: CutsConfig: at got 3: Input should be 'scenes' or 'nowhere'"),
        ("shortest=1", "line 4: CutsConfig: CutsConfig has no field `shortest`; did you mean `shortest_seconds`?"),
    ],
)
def test_what_a_python_job_says_wrongly_is_told_with_its_line_and_no_traceback(
    tmp_path: Path, call: str, complaint: str
) -> None:
    path = tmp_path / "job.py"
    path.write_text(f"from cineray.curate import CutsConfig\n\ndef job():\n    return CutsConfig({call})\n")
    with pytest.raises(UsageError) as refused:
        load_job(path, {})
    assert str(refused.value) == f"{path}, {complaint}"


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (["title=y"], Job(title="y")),
        (["inner.size=3"], Job(inner=Inner(size=3))),
        (["inner.names=[c]"], Job(inner=Inner(names=("c",)))),
        (["parts.1.size=7", "title='8'"], Job(title="8", parts=(Inner(), Inner(size=7)))),
    ],
)
def test_a_field_is_replaced_by_its_dotted_name(sets: list[str], expected: Job) -> None:
    assert override(Job(), sets) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tilte=y", "`the job` has no `tilte`; did you mean `title`?"),
        ("inner.siez=3", "`inner` has no `siez`; did you mean `size`?"),
        ("parts.2.size=3", "`parts` has no `2`; it has: 0, 1"),
        ("title.x=3", "`title` has no `x`; it has: no fields"),
        ("inner.size=0", "inner.size got 0"),
        ("inner.size=many", "inner.size got 'many'"),
        ("title", "it wants FIELD=VALUE"),
    ],
)
def test_a_wrong_override_names_the_field(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        override(Job(), [text])
    assert told in str(caught.value)


def test_a_record_is_itself_a_job(tmp_path: Path) -> None:
    job = Job(title="größe: #1", parts=(Inner(size=5),))
    path = tmp_path / "run.yaml"
    path.write_text(job_to_yaml(job, KINDS))

    assert load_job(path, KINDS) == job
    assert load_job(path, KINDS, ["inner.size=9"]) == job.model_copy(update={"inner": Inner(size=9)})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("job.yaml", "kind: other\n", "says kind: 'other'; wanted one of demo"),
        ("job.yaml", "kind: demo\nsize: [", "is not valid YAML"),
        ("job.yaml", "kind: demo\ntilte: y\n", "Job has no field `tilte`; did you mean `title`?"),
        ("job.yaml", "!!python/object/apply:os.system ['true']", "is not valid YAML"),
        ("job.py", "x = 1\n", "has no function job()"),
        ("job.py", "def job():\n    return {}\n", "returned a dict; it must return a config"),
        ("job.txt", "", "is neither .py nor .yaml"),
    ],
)
def test_what_is_no_job_is_refused_in_a_sentence(name: str, content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises(UsageError) as caught:
        load_job(tmp_path / name, KINDS)

    assert told in str(caught.value)
