"""What the tests of this folder share: being a user who may not read everything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

_NOBODY = 65534


@pytest.fixture
def as_nobody() -> Callable[[Path], AbstractContextManager[None]]:
    """Within the block, root is a user without rights, who owns nothing but may walk down to the folder."""

    @contextmanager
    def switched(folder: Path) -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        for each in (folder, *folder.parents):
            if not os.stat(each).st_mode & 0o001 and each != Path("/"):
                each.chmod(0o755)
        os.seteuid(_NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)

    return switched
