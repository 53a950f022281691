"""The audit of dependencies: a flaw fails with the way out, what nobody knows is said and fails nothing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[2] / "platform" / "audit.py"


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cineray_audit", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FLAW = {"id": "PYSEC-2026-7", "aliases": ["CVE-2026-27482"], "fix_versions": ["2.0.1"]}


def report(*flaws: dict[str, Any]) -> dict[str, Any]:
    return {
        "dependencies": [
            {"name": "sound", "version": "1.0", "vulns": []},
            {"name": "leaky", "version": "2.0", "vulns": list(flaws)},
            {"name": "torch", "skip_reason": "Dependency not found"},
        ]
    }


def test_a_known_flaw_fails_and_names_the_version_that_repairs_it(audit: ModuleType) -> None:
    assert audit.judged(report(FLAW)) == (
        1,
        "known vulnerabilities\n  leaky 2.0 has PYSEC-2026-7: repaired in 2.0.1; renew it in its constraints.txt",
    )
    code, sentence = audit.judged(report(FLAW | {"fix_versions": []}))
    assert code == 1
    assert "no version repairs it yet" in sentence


@pytest.mark.parametrize("name", ["PYSEC-2026-7", "CVE-2026-27482"])
def test_a_flaw_that_was_looked_at_and_accepted_does_not_fail(audit: ModuleType, name: str) -> None:
    audit.ACCEPTED[name] = "only its server is concerned, which we do not start"
    assert audit.judged(report(FLAW))[0] == 0


def test_what_is_not_known_is_counted_apart_from_what_is_sound(audit: ModuleType) -> None:
    sentence = "2 audited, none with a known vulnerability, of 1 the index knows no advisories"
    assert audit.judged(report()) == (0, sentence)
    nothing = {"dependencies": [{"name": "torch", "skip_reason": "Dependency not found"}]}
    assert audit.judged(nothing) == (0, "not audited: the index knows no advisories of any of 1")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('ERROR: no network')", "not audited: ERROR: no network"),
        ("import sys; sys.exit(1)", "not audited: pip-audit said nothing"),
        ("import time; time.sleep(60)", "not audited, no advisories came within 1 s"),
    ],
)
def test_where_advisories_cannot_be_reached_it_is_said_and_fails_nothing(
    audit: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    program: str,
    said: str,
) -> None:
    (tmp_path / "pip_audit.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(audit, "PATIENCE_SECONDS", 1)
    if "time" not in program:
        monkeypatch.setattr(audit, "PATIENCE_SECONDS", 30)
    assert audit.main() == 0
    assert capsys.readouterr().out == f"dependencies: {said}\n"
