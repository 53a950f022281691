"""`cineray bench JOB`: how fast a job's batches come against what the cores can decode, and what bounds them."""

from __future__ import annotations

import typer

from cineray.cli.job import JOB, SETS, data_job
from cineray.cli.output import JSON, bytes_text, facts_table, show


def bench_command(
    job: str = JOB,
    sets: list[str] = SETS,
    seconds: float = typer.Option(20.0, min=1.0, help="How long the feed is measured; the bare loop takes as long."),
    step_seconds: float = typer.Option(0.0, min=0.0, help="How long a training step takes; 0 means unknown."),
    as_json: bool | None = JSON,
) -> None:
    """Measure a job's feed beside the bare decode loop on the same cores, and say what bounds it."""
    from cineray.feed.throughput import measure

    told = data_job(job, sets)
    facts = {"job": told.name, **measure(told, seconds=seconds, step_seconds=step_seconds or None)}
    shown = {
        "driver": f"{facts['driver']} on {facts['cores']} cores",
        "feed": f"{facts['clips_per_s']:,.1f} clips/s, {facts['frames_per_s']:,.0f} frames/s, "
        f"{bytes_text(int(facts['bytes_per_s']))}/s",
        "bare decode loop": f"{facts['bare_clips_per_s']:,.1f} clips/s (ratio {facts['ratio']:.2f})",
        "decoded per frame used": f"{facts['frames_decoded_per_frame_used']:.2f}",
        "first batch after": f"{facts['startup_s']:.1f} s",
        "peak memory": bytes_text(facts["peak_rss_bytes"]),
        "verdict": facts["verdict"],
    }
    show(facts, as_json=as_json, table=[facts_table(shown)])
