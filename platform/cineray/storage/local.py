"""Files of this machine as a store. Paths go in; bytes, listings and durable writes come out.

Names are bytes to the system, so they travel as Python's surrogate-escaped text and any of them can be listed and
read. A write is complete or not there: it is made beside its target under a name that listings leave out, forced to
disk, and then linked (`put_if_absent`) or renamed (`put`) into place, and the folder is forced to disk as well.
Symbolic links are listed as links and never followed by a listing.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from cineray.errors import PlaceChanged, PlaceError, PlaceMissing
from cineray.storage.retry import ReadCounter
from cineray.storage.store import ObjectInfo, Store, StoreContext, Unlisted

UNFINISHED = ".cineray-unfinished-"
"""How the names of unfinished writes begin; after a crash they may stay, and are no objects."""

_NEXT_STEPS = {
    errno.ENOSPC: "free some space there, or choose another place",
    errno.EDQUOT: "free some space there, or have this user's quota raised",
    errno.EROFS: "mount it writable, or choose another place",
    errno.ENAMETOOLONG: "shorten the names of its folders",
}
_SHOWN_PATH_CHARS = 400


class _LocalStore(Store):
    """The file system below `/`."""

    def open(self, uri: str, context: StoreContext) -> _LocalFile:
        return _LocalFile(uri, context.counter)

    def list(self, uri: str) -> Iterator[ObjectInfo]:
        for found in list_folder(uri):
            if isinstance(found, Unlisted):
                raise found.error
            yield found

    def walk(self, uri: str) -> Iterator[ObjectInfo | Unlisted]:
        return list_folder(uri)

    def exists(self, uri: str) -> bool:
        try:
            return stat.S_ISREG(os.stat(uri).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        with _explained("writing", uri), _unfinished(uri, data) as path:
            try:
                os.link(path, uri)
            except FileExistsError:
                # A network file system may have made our link and lost the answer: then our file has two names.
                return os.stat(path).st_nlink == 2
            _sync_folder(os.path.dirname(uri))
            return True

    def put(self, uri: str, data: bytes) -> None:
        with _explained("writing", uri), _unfinished(uri, data) as path:
            os.replace(path, uri)
            _sync_folder(os.path.dirname(uri))

    def upload(self, local_path: str, uri: str) -> None:
        with _explained("writing", uri), _unfinished(uri, b"") as path:
            shutil.copyfile(local_path, path)
            _sync_file(path)
            os.replace(path, uri)
            _sync_folder(os.path.dirname(uri))

    @contextmanager
    def new(self, uri: str, size_bytes: int) -> Iterator[BinaryIO]:  # noqa: ARG002 - it is written where it will lie
        with _explained("writing", uri), _unfinished(uri, b"") as path:
            with open(path, "r+b") as file:
                yield file
            _sync_file(path)
            os.replace(path, uri)
            _sync_folder(os.path.dirname(uri))

    def delete(self, uri: str, *, recursive: bool) -> None:
        with _explained("deleting", uri):
            try:
                if recursive and os.path.isdir(uri) and not os.path.islink(uri):
                    shutil.rmtree(uri)
                else:
                    os.unlink(uri)
            except FileNotFoundError:
                return


class _LocalFile:
    """One open file; its version is that of the descriptor, so a file that is replaced while we read stays whole."""

    def __init__(self, path: str, counter: ReadCounter) -> None:
        self._path, self._fd = path, -1
        with _explained("reading", path):
            # O_NONBLOCK: opening a pipe without a writer would wait for ever. It changes nothing for files.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise PlaceError(f"{path!r} is a folder, a pipe or a device; wanted a regular file")
        counter.add(requests=1)
        self.size_bytes, self.version_tag = found.st_size, file_tag(found)

    def fetch(self, start: int, stop: int) -> bytes:
        if self._fd < 0:
            raise ValueError(f"{self._path!r} was closed; open it again to read it")
        with _explained("reading", self._path):
            parts, at = [], start
            while at < stop:  # one call of the system returns at most 2 GiB
                part = os.pread(self._fd, stop - at, at)
                if not part:
                    break
                parts.append(part)
                at += len(part)
            now = file_tag(os.fstat(self._fd))
        if now != self.version_tag:
            raise PlaceChanged(
                f"{self._path!r} was written while it was read: its size and time were {self.version_tag}, now {now}. "
                "Let its writer finish, then read it again"
            )
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not ending():  # else the modules are gone that closing needs, and the system closes all files anyway
            self.close()


def file_tag(found: os.stat_result) -> str:
    """The version tag of a local file: `<size>-<modification time in ns>`."""
    return f"{found.st_size}-{found.st_mtime_ns}"


def list_folder(root: str) -> Iterator[ObjectInfo | Unlisted]:
    """Every regular file and every link below `root`, in the byte order of whole paths; one folder in memory.

    What cannot be looked at below the root is an `Unlisted`: a folder of another user, a path longer than the system
    takes (such a file could not be opened afterwards either).
    """
    with _explained("listing", root):
        try:
            found = os.lstat(root)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISREG(found.st_mode):
            yield ObjectInfo(uri=root, size_bytes=found.st_size, version_tag=file_tag(found), is_link=False)
            return
        # A stack instead of recursion: folders nest deeper than Python's stack.
        stack = [_sorted_entries(root)]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        try:
            with _explained("listing", entry.path):
                below = _sorted_entries(entry.path) if entry.is_dir(follow_symlinks=False) else None
                info = _file_info(entry) if below is None else None
        except PlaceError as error:
            yield Unlisted(uri=entry.path, error=error)
            continue
        if below is not None:
            stack.append(below)
        elif info is not None:
            yield info


def _sorted_entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """Sorted so that files come out in the order of whole paths: a folder `a` sorts as `a/`, after `a.txt`."""
    try:
        with os.scandir(folder) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(UNFINISHED)]
    except (FileNotFoundError, NotADirectoryError):
        return iter(())  # removed, or replaced by a file, since its parent was listed
    return iter(sorted(entries, key=_path_order))


def _path_order(entry: os.DirEntry[str]) -> bytes:
    return os.fsencode(entry.name) + (b"/" if entry.is_dir(follow_symlinks=False) else b"")


def _file_info(entry: os.DirEntry[str]) -> ObjectInfo | None:
    is_link = entry.is_symlink()
    if not is_link and not entry.is_file(follow_symlinks=False):
        return None  # pipes, sockets and devices are no files
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return ObjectInfo(uri=entry.path, size_bytes=found.st_size, version_tag=file_tag(found), is_link=is_link)


@contextmanager
def _unfinished(uri: str, data: bytes) -> Iterator[str]:
    """A file with this content beside the target, forced to disk; gone afterwards unless it was renamed."""
    folder = os.path.dirname(uri)
    _make_folders(folder)
    path = os.path.join(folder, UNFINISHED + uuid.uuid4().hex)
    try:
        with open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        if os.path.lexists(path):
            os.unlink(path)


def _make_folders(folder: str) -> None:
    """Make missing folders, and force each new name to disk: a file is only durable if the way to it is."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        os.makedirs(path, exist_ok=True)
        _sync_folder(os.path.dirname(path))


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_file(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _explained(doing: str, path: str) -> Iterator[None]:
    """The system's error numbers as errors that people can act on."""
    shown = repr(path)
    if len(shown) > _SHOWN_PATH_CHARS:  # or the path would hide what is the matter with it
        shown = f"{shown[:200]}...{shown[-100:]} ({len(path):,} characters)"
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PlaceMissing(f"{doing} {shown}: there is no such file; look at the path") from error
    except PermissionError as error:
        raise PlaceError(
            f"{doing} {shown}: not permitted to this user; grant the access or name another place"
        ) from error
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "unknown")
        step = _NEXT_STEPS.get(error.errno or 0, "look at the file system")
        raise PlaceError(f"{doing} {shown} failed with {name}: {error.strerror}; {step}") from error


STORE = _LocalStore()
