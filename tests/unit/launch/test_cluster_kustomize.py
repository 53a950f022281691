"""Overlays as `kubectl kustomize` renders them: what is added, patched, renamed, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cineray.errors import UsageError
from cineray.launch.cluster.kustomize import build

DEPLOYMENT = """
kind: Deployment
metadata: {name: web}
spec: {template: {spec: {containers: [{name: web, image: site}, {name: log, image: host:5000/logs:2}]}}}
---
kind: Namespace
metadata: {name: here}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return made(tmp_path / "base", "resources: [all.yaml]\nnamespace: here\n", all=DEPLOYMENT)


def made(folder: Path, kustomization: str, **files: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "kustomization.yaml").write_text(kustomization)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def images(folder: Path) -> list[str]:
    return [one["image"] for one in build(folder)[0]["spec"]["template"]["spec"]["containers"]]


def test_a_namespace_is_given_to_all_but_what_lies_in_none(base: Path) -> None:
    assert [one["metadata"] for one in build(base)] == [{"name": "web", "namespace": "here"}, {"name": "here"}]


def test_an_image_is_found_by_its_name_whatever_its_tag(base: Path) -> None:
    told = """
resources: [../base]
images:
  - {name: site, newName: registry.example.com/site, newTag: "3"}
  - {name: host:5000/logs, digest: "sha256:ab"}
"""
    assert images(made(base.parent / "over", told)) == ["registry.example.com/site:3", "host:5000/logs@sha256:ab"]


def test_patches_come_before_images_and_components_may_change_the_kind(base: Path) -> None:
    made(
        base.parent / "job",
        "patches: [{target: {kind: Deployment}, path: job.yaml}]",
        job="[{op: replace, path: /kind, value: Job}]",
    )
    told = """
resources: [../base]
components: [../job]
patches:
  - target: {kind: Job, name: w.b}
    patch: '[{op: replace, path: /spec/template/spec/containers/1/image, value: site}]'
images: [{name: site, newTag: "4"}]
"""
    assert images(made(base.parent / "over", told)) == ["site:4", "site:4"]


def test_what_is_not_understood_is_refused_with_the_way_out(base: Path) -> None:
    folder = made(base.parent / "over", "resources: [../base]\nnamePrefix: my-\n")
    with pytest.raises(UsageError, match=r"says namePrefix; .* Render it by `kubectl kustomize"):
        build(folder)


def test_a_patch_for_nothing_is_refused_with_the_kinds_that_there_are(base: Path) -> None:
    told = "resources: [../base]\npatches: [{target: {kind: Service}, patch: '[{op: remove, path: /spec}]'}]"
    with pytest.raises(UsageError, match="there is none; the kinds are Deployment, Namespace"):
        build(made(base.parent / "over", told))


def test_a_patch_that_does_not_fit_names_the_object(base: Path) -> None:
    told = "resources: [../base]\npatches: [{target: {kind: Deployment}, patch: '[{op: remove, path: /no}]'}]"
    with pytest.raises(UsageError, match=r"does not fit Deployment web: .*compare it with base/"):
        build(made(base.parent / "over", told))


def test_a_folder_without_a_kustomization_and_a_broken_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no kustomization.yaml; wanted a folder such as"):
        build(tmp_path)
    with pytest.raises(UsageError, match="is not valid YAML"):
        build(made(tmp_path / "broken", "resources: ["))
