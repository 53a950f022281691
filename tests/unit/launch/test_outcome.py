"""What became of a job: its result out of its log, its exit code, and clear words about a cluster that is not right."""

from __future__ import annotations

import logging
import socket
import sys

import pytest

pytest.importorskip("ray")
import ray

from cineray.errors import CinerayError, UsageError
from cineray.launch.clients import JobFacts, Versions, check_versions, dashboard_url, is_in_the_open, open_cluster
from cineray.launch.outcome import exit_code, result_of
from cineray.telemetry.log_lines import JsonLines

HERE = ".".join(map(str, sys.version_info[:3]))


def facts(status: str, code: int | None = None) -> JobFacts:
    return JobFacts("id", status, "", {}, "", code, None, None)


def test_the_result_is_the_last_line_of_json_however_the_log_is_cut() -> None:
    log = 'words\n{"step": 1}\nmore {"no": 1}\n{"verdict": "bound by data", "step": 3}\nbye\n'
    told = {"verdict": "bound by data", "step": 3}
    assert [result_of([log[:at], log[at:]]) for at in range(len(log))] == [told] * len(log)
    assert result_of(['{"last": "without newline"}']) == {"last": "without newline"}
    assert result_of(["no json", "{broken}\n"]) == {}


def test_log_records_in_json_are_no_results() -> None:
    record = JsonLines().format(logging.LogRecord("cineray.train", logging.WARNING, __file__, 1, "late", None, None))
    assert result_of(['{"step": 3}\n', f"{record}\n"]) == {"step": 3}
    assert result_of(['{"step": 3}\n', record]) == {"step": 3}


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (facts("SUCCEEDED", 0), 0),
        (facts("FAILED", 3), 3),
        (facts("FAILED", -9), 137),
        (facts("FAILED"), 1),
        (facts("STOPPED"), 130),
    ],
)
def test_the_exit_code_is_the_jobs_own(job: JobFacts, code: int) -> None:
    assert exit_code(job) == code


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("head:8265", "http://head:8265"),
        ("http://head", "http://head:8265"),
        ("https://ray.example.org/a/", "https://ray.example.org:443/a"),
        ("http://[::1]:8265", "http://[::1]:8265"),
    ],
)
def test_an_address_is_that_of_the_dashboard(typed: str, url: str) -> None:
    assert dashboard_url(typed) == url


def test_only_a_tunnel_or_https_hides_the_token() -> None:
    urls = ["http://head:8265", "http://10.0.0.7:8265", "https://head:443", "http://127.0.0.1:8265", "http://[::1]:1"]
    assert [is_in_the_open(url) for url in urls] == [True, True, False, False, False]


@pytest.mark.parametrize("typed", ["ray://head:10001", "head:6379", "auto:x", "http://me:secret@head:8265"])
def test_another_address_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="--address") as refused:
        dashboard_url(typed)
    assert "secret" not in str(refused.value)


def test_a_cluster_that_is_not_there_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(CinerayError, match=f"nothing answers at http://127.0.0.1:{port}: .*refused"):
        open_cluster(f"127.0.0.1:{port}")


def test_another_ray_or_python_is_refused_with_both_versions() -> None:
    check_versions(Versions(ray.__version__, HERE))
    with pytest.raises(UsageError, match=rf"the cluster runs Ray 2\.9\.3 and this machine {ray.__version__}"):
        check_versions(Versions("2.9.3", HERE))
    with pytest.raises(UsageError, match=rf"the cluster runs Python 3\.9\.1 and this machine {HERE}"):
        check_versions(Versions(ray.__version__, "3.9.1"))
    check_versions(Versions(ray.__version__, "3.9.1"), other_python=True)
    with pytest.raises(UsageError, match="runs Ray"):
        check_versions(Versions("3.0.0", "3.9.1"), other_python=True)
