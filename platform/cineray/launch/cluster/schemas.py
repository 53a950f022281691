"""Documents against the schemas of those who will read them: documents go in, `Problem`s of one short line come out.

    machines      Ray's own schema of `ray up` files, from the installed Ray; its own complaint prints all of the schema
    ray.io        KubeRay's CRDs where they are given, made strict: a field that they do not know is wrong
    the rest      Kubernetes' schemas, which the package kubernetes-validate brings

What cannot be looked at (no CRDs, an object of somebody else's) is told as skipped, with the reason.
"""

from __future__ import annotations

import copy
import difflib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cineray.errors import CinerayError, UsageError
from cineray.launch.cluster.files import ClusterFiles
from cineray.launch.cluster.kustomize import Document

KUBERNETES = "1.33"
"""The oldest version that the files are checked for."""
_OTHERS = ("kueue.x-k8s.io/", "monitoring.coreos.com/")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a cluster's files."""

    where: str
    what: str


@dataclass(slots=True)
class Looked:
    """What came of looking."""

    problems: list[Problem] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def check_schemas(files: ClusterFiles, crds: str = "") -> Looked:
    """All documents, each against its schema. `crds`: a folder with KubeRay's, as its releases have them."""
    looked = Looked()
    if files.kind == "vm":
        looked.problems += complaints(files.documents[0], ray_up_schema(), files.path.name)
        looked.checked.append("Ray's schema of cluster files")
        return looked
    for document in files.documents:
        _check_one(document, crds, looked)
    return looked


def _check_one(document: Document, crds: str, looked: Looked) -> None:
    api, kind = str(document.get("apiVersion", "")), str(document.get("kind", ""))
    name = f"{kind} {document.get('metadata', {}).get('name', '?')}"
    if api.startswith("ray.io/"):
        if not crds:
            looked.skipped.append(f"{name}: no CRDs of KubeRay are given (--crds FOLDER, or CINERAY_KUBERAY_CRDS)")
            return
        looked.problems += complaints(document, crd_schema(crds, kind), name)
    elif api.startswith(_OTHERS):
        looked.skipped.append(f"{name}: no schema of {api} is at hand")
        return
    else:
        looked.problems += _core(document, name)
    looked.checked.append(name)


def ray_up_schema() -> Document:
    """Of `ray up` files, from the installed Ray."""
    import ray.autoscaler

    file = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    schema: Document = json.loads(file.read_text(encoding="utf-8"))
    return schema


@cache
def crd_schema(folder: str, kind: str) -> Document:
    """Of a kind of KubeRay, from its CRD."""
    import yaml

    file = Path(folder) / f"{kind.lower()}s.yaml"
    names = [file, Path(folder) / f"ray.io_{kind.lower()}s.yaml"]
    found = next((one for one in names if one.is_file()), None)
    if found is None:
        raise UsageError(f"{folder} has no CRD of {kind}: wanted {' or '.join(one.name for one in names)}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    told = yaml.load(found.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - both are safe loaders
    versions = [one for one in told["spec"]["versions"] if one["name"] == "v1"]
    if not versions:
        raise UsageError(f"{found} has no version v1; wanted the CRDs of a KubeRay of 1.1 or newer")
    schema = strict(versions[0]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # the API server knows that one
    made: Document = schema
    return made


def strict(schema: Any) -> Any:
    """Kubernetes' dialect as plain JSON schema that refuses unknown fields, as `kubectl apply` does."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(inner) for name, inner in schema.items()}
    if made.get("x-kubernetes-int-or-string") is True:
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    if made.get("nullable") is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    closed = made.get("type") == "object" and "properties" in made and "additionalProperties" not in made
    if closed and not made.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made


def with_defaults(value: Any, schema: Document) -> Any:
    """A document as the API server completes it: what it may leave out is there, so that nothing is missed."""
    if isinstance(value, dict) and isinstance(schema.get("properties"), dict):
        made = dict(value)
        for name, inner in schema["properties"].items():
            if name not in made and "default" in inner:
                made[name] = copy.deepcopy(inner["default"])
            if name in made:
                made[name] = with_defaults(made[name], inner)
        return made
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [with_defaults(one, schema["items"]) for one in value]
    return value


def complaints(document: Document, schema: Document, name: str) -> Iterator[Problem]:
    """What a schema has against a document, a line each."""
    from jsonschema import Draft7Validator

    for error in Draft7Validator(schema).iter_errors(with_defaults(document, schema)):
        at = ".".join(str(part) for part in error.absolute_path)
        yield Problem(f"{name}: {at}" if at else name, _short(error))


def _short(error: Any) -> str:
    """One line: what it got and what is wanted, and never the schema."""
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = sorted(set(error.instance) - set(known))
        return "; ".join(f"has no field `{one}`{_near(one, known)}" for one in unknown)
    if error.validator == "required":
        return str(error.message).replace("is a required property", "is missing")
    got = str(error.instance)
    got = got if len(got) <= 60 else got[:57] + "..."
    if error.validator == "type":
        wanted = error.validator_value
        return f"got {got!r}; wanted {wanted if isinstance(wanted, str) else ' or '.join(wanted)}"
    if error.validator == "enum":
        return f"got {got!r}; wanted one of {', '.join(map(str, error.validator_value))}"
    return f"got {got!r}; wanted {error.validator} {error.validator_value!r}"[:200]


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _core(document: Document, name: str) -> Iterator[Problem]:
    try:
        import kubernetes_validate
    except ImportError:
        raise CinerayError(
            "checking Kubernetes' objects needs kubernetes-validate: pip install 'cineray[cluster]'"
        ) from None
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        at = ".".join(str(part) for part in error.path)
        yield Problem(f"{name}: {at}" if at else name, str(error.message)[:200])
    except kubernetes_validate.SchemaNotFoundError:
        api, kind = document.get("apiVersion"), document.get("kind")
        yield Problem(name, f"Kubernetes {KUBERNETES} has no {kind} in {api}; check apiVersion and kind")


def crds_told(option: str) -> str:
    """Where KubeRay's CRDs are: an option, or the environment."""
    return option or os.environ.get("CINERAY_KUBERAY_CRDS", "")
