"""Being a user who may not read everything, as in the storage's tests; by its path, since tests are no package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "cineray_test_nobody", Path(__file__).parents[1] / "storage" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_nobody = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_nobody)
as_nobody = _nobody.as_nobody
