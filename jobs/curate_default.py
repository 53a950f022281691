"""Clips that are worth training on, from whatever was ingested: cut into scenes, the useless left out with a reason.

Purpose: a first curation of any lake, to be read and changed: each rule is one line of SQL over what was measured. Say
what each would remove before anything is made, then make the version:

    cineray curate jobs/curate_default.py --set lake=my-lake --dry-run
    cineray curate jobs/curate_default.py --set lake=my-lake
    cineray lake explain my-lake beach.mp4

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
            RuleConfig(name="dim_or_flat", leave_out="brightness_mean < 12 OR brightness_contrast < 6"),
            RuleConfig(name="blurred", leave_out="blur_best > 0.75"),
            RuleConfig(name="flashing", leave_out="flashes_per_second > 3"),
            RuleConfig(name="overlaid", leave_out="overlay_share > 0.25"),
            RuleConfig(
                name="broken_timing", leave_out="timing_longest_gap_seconds > 1 AND timing_gaps * 50 < num_frames"
            ),
            RuleConfig(name="no_motion", leave_out="motion_fraction < 0.002 AND motion_camera_speed < 0.02"),
        ),
    )
