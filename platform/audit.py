"""Are our pinned dependencies known to be vulnerable? `constraints.txt` and that of the image go in, a sentence comes
out; 1 if they are.

    python platform/audit.py          part of `make check`

pip-audit asks the advisories of the Python packaging authority. Where those cannot be reached (a machine without a
network, an index that keeps none) nothing is known: that is said, and is no failure, or nobody could work there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
CONSTRAINTS = (_HERE / "constraints.txt", _HERE.parent / "cluster" / "image" / "constraints.txt")
PATIENCE_SECONDS = 300
ACCEPTED: dict[str, str] = {}
"""Advisory -> why it does not concern us. Each is looked at again when its package is renewed."""


def main() -> int:
    """Audit, and say what came of it."""
    options = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    files = [word for path in CONSTRAINTS for word in ("-r", str(path))]
    command = [sys.executable, "-m", "pip_audit", *files, *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
        report = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        print(f"dependencies: not audited, no advisories came within {PATIENCE_SECONDS} s")
        return 0
    except ValueError:
        print(f"dependencies: not audited: {last_line(done.stderr)}")
        return 0
    code, sentence = judged(report)
    print(f"dependencies: {sentence}")
    return code


def judged(report: Mapping[str, Any]) -> tuple[int, str]:
    """The exit code and what is said, from pip-audit's report."""
    known = [one for one in report["dependencies"] if "vulns" in one]
    found = [
        f"{one['name']} {one['version']} has {flaw['id']}: {repaired(flaw)}"
        for one in known
        for flaw in one["vulns"]
        if not {flaw["id"], *flaw.get("aliases", [])} & set(ACCEPTED)
    ]
    if found:
        return 1, "\n  ".join(["known vulnerabilities", *found])
    unknown = len(report["dependencies"]) - len(known)
    if not known:
        return 0, f"not audited: the index knows no advisories of any of {unknown}"
    rest = f", of {unknown} the index knows no advisories" if unknown else ""
    return 0, f"{len(known)} audited, none with a known vulnerability{rest}"


def repaired(flaw: Mapping[str, Any]) -> str:
    """The next step."""
    versions = flaw.get("fix_versions") or []
    if not versions:
        return "no version repairs it yet; say in ACCEPTED why it does not concern us, or do without the package"
    return f"repaired in {', '.join(versions)}; renew it in its constraints.txt"


def last_line(text: str) -> str:
    """Of what a program said about its end."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "pip-audit said nothing"


if __name__ == "__main__":
    sys.exit(main())
