"""Secrets travel by reference: names and files, never values; and a value that would travel is refused unrepeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from cineray.errors import CinerayError, UsageError
from cineray.launch.references import (
    Secret,
    check_secrets,
    parse_secret,
    parse_variable,
    read_secrets,
    references_text,
    refuse_values,
)

CANARY = "canary-7f3a9b51c2"


def test_a_reference_is_a_name_or_a_name_and_a_file_on_the_nodes() -> None:
    told = [parse_secret("WANDB_API_KEY"), parse_secret("HF_TOKEN@/run/secrets/hf")]
    assert told == [Secret("WANDB_API_KEY"), Secret("HF_TOKEN", "/run/secrets/hf")]
    assert references_text(told) == "WANDB_API_KEY,HF_TOKEN@/run/secrets/hf"


@pytest.mark.parametrize("typed", [f"WANDB_API_KEY={CANARY}", f"K@{CANARY}", f"K:{CANARY}", f"K@/a,{CANARY}"])
def test_a_value_typed_as_a_reference_is_refused_and_not_repeated(typed: str) -> None:
    with pytest.raises(UsageError, match="values do not travel") as refused:
        parse_secret(typed)
    assert CANARY not in str(refused.value)


def test_a_variable_that_is_named_like_a_secret_is_refused_and_not_repeated() -> None:
    assert parse_variable("AWS_ENDPOINT_URL=http://store:9000/?a=b") == ("AWS_ENDPOINT_URL", "http://store:9000/?a=b")
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "db_password", "AZURE_STORAGE_CONNECTION_STRING"):
        with pytest.raises(UsageError, match=f"--env {name} is named like a secret") as refused:
            parse_variable(f"{name}={CANARY}")
        assert CANARY not in str(refused.value)


@pytest.mark.parametrize("text", [f"runs=s3://b/{CANARY}", f"x{CANARY}y".encode(), f"{CANARY}\n".encode()])
def test_whatever_holds_the_value_of_a_secret_of_this_machine_is_refused(text: str | bytes) -> None:
    with pytest.raises(UsageError, match="the thing holds the value of \\$WANDB_API_KEY") as refused:
        refuse_values([("a thing", "harmless"), ("the thing", text)], {"WANDB_API_KEY": CANARY}, [])
    assert CANARY not in str(refused.value)


def test_a_secret_is_one_by_its_name_or_because_it_was_named() -> None:
    told = [("it", f"x {CANARY}")]
    refuse_values(told, {"EDITOR": CANARY, "SHORT_KEY": "x"}, [])
    with pytest.raises(UsageError, match=r"\$EDITOR"):
        refuse_values(told, {"EDITOR": CANARY}, [Secret("EDITOR")])


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="--set holds an address with a password") as refused:
        refuse_values([("--set", f"runs=https://me:{CANARY}@host/x")], {}, [])
    assert CANARY not in str(refused.value)
    refuse_values([("--set", "runs=abfs://container@account.dfs.core.windows.net/x")], {}, [])


def test_each_process_reads_its_own_node(tmp_path: Path) -> None:
    (tmp_path / "hf").write_text(f"{CANARY}\n")
    environ = {"CINERAY_SECRETS": f"IN_ENV,HF_TOKEN@{tmp_path}/hf", "IN_ENV": "there"}
    assert read_secrets(environ) == []
    assert environ["HF_TOKEN"] == CANARY


def test_what_a_node_lacks_is_named_all_at_once(tmp_path: Path) -> None:
    environ = {"CINERAY_SECRETS": f"WANDB_API_KEY,HF_TOKEN@{tmp_path}/none"}
    with pytest.raises(CinerayError) as refused:
        check_secrets("node-1", environ)
    assert str(refused.value).splitlines()[:3] == [
        "node-1 lacks secrets that the job names:",
        "  WANDB_API_KEY: no such variable in the environment of Ray's processes",
        f"  HF_TOKEN from {tmp_path}/none: No such file or directory",
    ]


def test_who_names_no_secrets_needs_none() -> None:
    environ: dict[str, str] = {}
    check_secrets("node-1", environ)
    assert environ == {}
