"""Files of the Hugging Face Hub. `hf://datasets/org/name@revision/path` goes in; ranged reads and listings come out.

Read-only: a write to the Hub is a commit to somebody's repository, which is `publish`'s business and not a lake's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cineray.storage.generic import FsspecStore

if TYPE_CHECKING:
    import fsspec


class _HubStore(FsspecStore):
    """huggingface_hub's own file system; the token comes from the environment or from its log-in."""

    def path_of(self, uri: str) -> str:
        return uri.removeprefix("hf://")

    def uri_of(self, path: str) -> str:
        return f"hf://{path}"

    def read_range(self, client: fsspec.AbstractFileSystem, path: str, start: int, stop: int) -> bytes:
        # cat_file would read ahead by megabytes; without a cache, a read is one ranged GET.
        with client.open(path, "rb", cache_type="none") as file:
            file.seek(start)
            return bytes(file.read(stop - start))


STORE = _HubStore()
