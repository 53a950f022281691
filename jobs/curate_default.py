"""Clips that are worth training on, from whatever was ingested: cut into scenes, the useless left out with a reason.

Purpose: a first curation of any lake, to be read and changed: each rule is one line of SQL over what was measured. Say
what each would remove before anything is made, then make the version:

    cineray curate jobs/curate_default.py --set lake=my-lake --dry-run
    cineray curate jobs/curate_default.py --set lake=my-lake
    cineray lake explain my-lake beach.mp4

Columns that begin with `clip_` are of the clip itself, as a share of its time: a long film with one bad second loses
the scene of that second and no other. `blurred` and `overlaid` are of the whole video, judged by 16 of its frames: all
its clips are left out where even the sharpest of the 16 is blurred, or where a mark stays in all of them. What could
not be measured is null, and leaves nothing out.

Only the first run decodes. Rules and cuts may be changed and tried again in seconds, because what was measured is kept.

Hardware: any. A core looks at 275 frames of 1280x720 a second and 800 of 320x240 (2 cores of a Xeon, 2026-11-21, all
stages; benchmarks/results/curate_stages.md), and keeps some 4 kB of results per ten seconds of video.
"""

from cineray.curate import CurateJob, CutsConfig, DuplicatesConfig, RuleConfig


def job() -> CurateJob:
    """The whole config."""
    return CurateJob(
        name="curate-default",
        lake="demo-out/lake",
        cuts=CutsConfig(at="scenes", shortest_seconds=1.0),
        duplicates=DuplicatesConfig(keep="best"),
        rules=(
            RuleConfig(name="black", leave_out="clip_black_fraction > 0.5"),
            RuleConfig(name="frozen", leave_out="clip_still_frozen_fraction > 0.8"),
            RuleConfig(
                name="dim_or_flat",
                leave_out="clip_brightness_dim_fraction > 0.5 OR clip_brightness_flat_fraction > 0.5",
            ),
            RuleConfig(name="blurred", leave_out="blur_best > 0.75"),
            RuleConfig(name="flashing", leave_out="clip_flashes_strobe_fraction > 0.05"),
            RuleConfig(name="overlaid", leave_out="overlay_share > 0.25"),
            # Gaps in an even beat: where gaps are many, or frames stray from the beat, the rate varies by right.
            RuleConfig(
                name="broken_timing",
                leave_out="clip_timing_gap_fraction > 0.1 AND timing_longest_gap_seconds > 1 "
                "AND timing_gaps * 50 < num_frames AND timing_drift_seconds < 0.05",
            ),
            RuleConfig(name="no_motion", leave_out="clip_motion_none_fraction > 0.9"),
        ),
    )
