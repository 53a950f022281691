"""What travels to a cluster: a project and a cineray go in; a package comes out, with its size and what stays here.

    cineray/...        the cineray that runs this command, from a checkout or installed; or that of a wheel; or none
    jobs/..., ...      the project's files, under their own names

Data, secrets and what git ignores stay here. The same files make the same package, byte for byte, so that a cluster
which has it is not sent it again, and the same job is the same submission.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from cineray.errors import UsageError
from cineray.launch.working_tree import is_tracked, project_files

LIMIT_BYTES = 100 << 20
"""What Ray's job API takes (a constant of its dashboard, whatever its documentation says)."""
LARGEST_SHOWN = 5
_STAYS = "testing/clusters/"
"""Of cineray's own: clusters to break, which no job needs; wheels have them as little (pyproject.toml)."""
CODE = "cineray"

_DATA = """
    mp4 m4v mov mkv webm avi flv mpg mpeg mts m2ts wmv 3gp ogv y4m wav mp3 flac aac ogg m4a jpg jpeg png gif webp bmp
    tif tiff tar tgz gz bz2 xz zst zip 7z parquet arrow feather lance npy npz pt pth ckpt safetensors bin h5 hdf5 pkl
    pickle db sqlite onnx whl
"""
DATA = frozenset(_DATA.split())
"""Endings of files that hold data and not code."""
_KEPT_BACK = """
    .env .env.* *.pem *.key *.p12 *.pfx *.kdbx .netrc .pypirc .npmrc .git-credentials id_rsa* id_dsa* id_ecdsa*
    id_ed25519* credentials credentials.json auth_token *.token
"""
SECRET = tuple(_KEPT_BACK.split())
"""Names of files that usually hold secrets."""
_MARKS = ("lake.json", "run.json")
"""A folder with one of these is a lake or a run."""
_OWN = Path(__file__).resolve().parents[1]
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Traveller:
    """One file that travels; `name` is where it will lie."""

    name: str
    data: bytes = field(repr=False)

    @property
    def size_bytes(self) -> int:
        """Before it is packed."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Package:
    """What travels, and what stays: a reason and the names that it holds for."""

    files: tuple[Traveller, ...]
    left_out: Mapping[str, tuple[str, ...]]

    @property
    def size_bytes(self) -> int:
        """Of all files, before they are packed."""
        return sum(one.size_bytes for one in self.files)

    @property
    def names(self) -> frozenset[str]:
        """Where the files will lie."""
        return frozenset(one.name for one in self.files)

    def largest(self) -> list[Traveller]:
        """A few, the largest first."""
        return sorted(self.files, key=lambda one: (-one.size_bytes, one.name))[:LARGEST_SHOWN]

    def digest(self) -> str:
        """Names exactly these files with exactly these bytes."""
        seen = hashlib.blake2b(digest_size=16)
        for one in self.files:
            seen.update(f"{len(one.name)}:{one.name}:{one.size_bytes}:".encode())
            seen.update(one.data)
        return seen.hexdigest()

    def write(self, folder: Path) -> Path:
        """The package as a file. No times and no owners: the same package is the same file on every machine."""
        path = folder / f"cineray-{self.digest()[:16]}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for one in self.files:
                about = zipfile.ZipInfo(one.name, date_time=_EPOCH)
                about.compress_type, about.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                packed.writestr(about, one.data)
        return path


def make_package(root: Path | None, *, code: str = "here", only: Sequence[str] = ()) -> Package:
    """The files of the project at `root` (None: of none), and cineray. `code`: `here`, `cluster`, or a wheel; `only`:
    of the project just these folders and files."""
    left_out: dict[str, list[str]] = {}
    files = {one.name: one for one in code_files(code)}
    hides = bool(files)
    for name, path in _chosen(root, only, left_out) if root is not None else ():
        if hides and PurePosixPath(name).parts[0] in (CODE, f"{CODE}.py"):
            left_out.setdefault("it would hide cineray's own", []).append(name)
        else:
            files[name] = Traveller(name, path.read_bytes())
    package = Package(
        tuple(files[name] for name in sorted(files)), {why: tuple(names) for why, names in left_out.items()}
    )
    _check_size(package)
    return package


def code_files(code: str) -> list[Traveller]:
    """The cineray that travels."""
    if code == "cluster":
        return []
    if code != "here":
        return _of_wheel(Path(code))
    if is_tracked(_OWN / "__init__.py"):
        names = [name for name in project_files(_OWN) if (_OWN / name).is_file()]
    else:
        found = (path.relative_to(_OWN) for path in sorted(_OWN.rglob("*")) if path.is_file())
        names = [path.as_posix() for path in found if "__pycache__" not in path.parts]
    travel = (name for name in names if not name.startswith(_STAYS))
    return [Traveller(f"{CODE}/{name}", (_OWN / name).read_bytes()) for name in travel]


def _of_wheel(wheel: Path) -> list[Traveller]:
    """Unpacked here, because Ray would have pip fetch all that the wheel depends on, on every node."""
    if wheel.suffix != ".whl" or not wheel.is_file():
        raise UsageError(f"--code got {str(wheel)!r}; wanted `here`, `cluster`, or the path of a wheel of cineray")
    with zipfile.ZipFile(wheel) as packed:
        names = [name for name in packed.namelist() if name.startswith(f"{CODE}/") and not name.endswith("/")]
        if not names:
            raise UsageError(f"{wheel} holds no {CODE}/; wanted a wheel of cineray: pip wheel --no-deps .")
        return [Traveller(name, packed.read(name)) for name in sorted(names)]


def _chosen(root: Path, only: Sequence[str], left_out: dict[str, list[str]]) -> Iterator[tuple[str, Path]]:
    """The project's files that travel; the others are noted with their reason."""
    listed = project_files(root)
    for wanted in only:
        if not any(_is_below(name, wanted) for name in listed):
            raise UsageError(f"--only got {wanted!r}, and {root} has no file there that git does not ignore")
    chosen = [name for name in listed if not only or any(_is_below(name, wanted) for wanted in only)]
    kept_apart = {str(PurePosixPath(name).parent) for name in chosen if PurePosixPath(name).name in _MARKS}
    for name in chosen:
        path = root / name
        if path.is_relative_to(_OWN):
            continue  # cineray's own files travel as cineray, or not at all
        why = why_left_out(name, kept_apart) or _why_not_a_file(path, root)
        if why:
            left_out.setdefault(why, []).append(name)
        else:
            yield name, path


def why_left_out(name: str, lakes_and_runs: Iterable[str] = ()) -> str:
    """Why a file stays here, by its name; empty if it travels."""
    path = PurePosixPath(name)
    if any(_is_below(name, folder) for folder in lakes_and_runs):
        return "of a lake or a run"
    if any(fnmatch(path.name.lower(), pattern) for pattern in SECRET):
        return "may hold a secret"
    if any(part.endswith(".lance") for part in path.parts) or path.suffix.lower().lstrip(".") in DATA:
        return "data"
    return ""


def _why_not_a_file(path: Path, root: Path) -> str:
    if not path.exists():
        return "a link to nothing"
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        return "a link out of the project"
    return "" if path.is_file() else "a repository or link of its own"


def _is_below(name: str, folder: str) -> bool:
    return PurePosixPath(name).is_relative_to(PurePosixPath(folder))


def _check_size(package: Package) -> None:
    if package.size_bytes <= LIMIT_BYTES:
        return
    largest = "\n".join(f"  {one.size_bytes / 1e6:8.1f} MB  {one.name}" for one in package.largest())
    raise UsageError(
        f"{package.size_bytes / 1e6:.1f} MB would travel, and a cluster takes {LIMIT_BYTES / 1e6:.1f} MB; the largest "
        f"files are\n{largest}\nLet git ignore what the job does not need, or choose folders: --only jobs"
    )
