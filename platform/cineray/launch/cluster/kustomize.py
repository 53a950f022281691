"""What `kubectl kustomize` would print: a folder with a kustomization.yaml goes in, Kubernetes' documents come out.

Only what the files under cluster/ use, and the same result for it: resources, components, JSON patches with a target,
namespace, images. Anything else in a kustomization is refused by name rather than left out. So whoever looks at a
cluster's files needs no other program, and whoever has kubectl may use that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cineray.errors import CinerayError, UsageError

Document = dict[str, Any]

CLUSTER_SCOPED = frozenset({"Namespace", "PriorityClass"})
"""Kinds that lie in no namespace, of those in base/."""
_KNOWN = {"apiVersion", "kind", "resources", "components", "patches", "namespace", "images"}


def build(folder: Path) -> list[Document]:
    """The documents of an overlay, of a base, or of what lies between."""
    return _accumulate(folder, [])


def _accumulate(folder: Path, documents: list[Document]) -> list[Document]:
    told = read_kustomization(folder)
    for name in told.get("resources", ()):
        path = folder / name
        documents += build(path) if path.is_dir() else read_documents(path)
    for name in told.get("components", ()):
        documents = _accumulate(folder / name, documents)  # a component changes what is there already
    for patch in told.get("patches", ()):
        _patch(documents, patch, folder)
    if told.get("namespace"):
        for document in documents:
            if document["kind"] not in CLUSTER_SCOPED:
                document["metadata"]["namespace"] = told["namespace"]
    for image in told.get("images", ()):
        for container in containers(documents):
            _set_image(container, image)
    return documents


def read_kustomization(folder: Path) -> Document:
    """The kustomization.yaml of a folder, refused where it says more than is understood here."""
    file = folder / "kustomization.yaml"
    if not file.is_file():
        raise UsageError(f"{folder} has no kustomization.yaml; wanted a folder such as cluster/kuberay/overlays/gke")
    (told,) = read_documents(file)
    unknown = set(told) - _KNOWN
    if unknown:
        raise UsageError(
            f"{file} says {', '.join(sorted(unknown))}; understood here is only {', '.join(sorted(_KNOWN))}. "
            f"Render it by `kubectl kustomize {folder} > FILE.yaml` and give that file instead"
        )
    return told


def read_documents(file: Path) -> list[Document]:
    """All documents of a YAML file."""
    import yaml

    try:
        return [one for one in yaml.safe_load_all(file.read_text(encoding="utf-8")) if one is not None]
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}; wanted YAML") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{file} is not valid YAML: {error}") from None


def _patch(documents: list[Document], patch: Document, folder: Path) -> None:
    import yaml

    text = patch["patch"] if "patch" in patch else (folder / patch["path"]).read_text(encoding="utf-8")
    operations, target = yaml.safe_load(text), patch.get("target", {})
    if not isinstance(operations, list):
        raise UsageError(
            f"a patch of {folder} is no list of operations; wanted `- {{op: replace, path: ..., value: ...}}`"
        )
    found = [at for at, one in enumerate(documents) if _is_target(one, target)]
    if not found:
        raise UsageError(
            f"a patch of {folder} is for {target}, and there is none; the kinds are "
            f"{', '.join(sorted({one['kind'] for one in documents}))}"
        )
    for at in found:
        documents[at] = apply_patch(documents[at], operations, where=str(folder))


def _is_target(document: Document, target: Document) -> bool:
    return re.fullmatch(target.get("kind", ".*"), document["kind"]) is not None and (
        re.fullmatch(target.get("name", ".*"), document["metadata"]["name"]) is not None
    )


def apply_patch(document: Document, operations: list[Document], *, where: str) -> Document:
    """RFC 6902 on one document."""
    try:
        import jsonpatch
    except ImportError:
        raise CinerayError("rendering an overlay needs jsonpatch: pip install 'cineray[cluster]'") from None
    try:
        done: Document = jsonpatch.apply_patch(document, operations)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        name = f"{document['kind']} {document['metadata']['name']}"
        raise UsageError(f"a patch of {where} does not fit {name}: {error}; compare it with base/") from None
    return done


def containers(value: Any) -> Iterator[Document]:
    """Every container of every pod, wherever in a document its template stands."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("containers", "initContainers") and isinstance(inner, list):
                yield from inner
            else:
                yield from containers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from containers(inner)


def _set_image(container: Document, image: Document) -> None:
    name, _, _ = str(container.get("image", "")).partition("@")
    name = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
    if name != image["name"]:
        return
    new = image.get("newName", name)
    container["image"] = f"{new}@{image['digest']}" if "digest" in image else f"{new}:{image['newTag']}"
