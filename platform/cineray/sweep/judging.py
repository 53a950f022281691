"""What all trials of a sweep are judged on: a sweep's job goes in; out comes the same job, with that written into it.

    what a trial trains on     every 4th frame | every frame | 8 a second           differs from trial to trial
    what it is asked for       the same held-out clips, at the same instants        the same for all

The clips, their size and their instants become one recipe (`judge.recipe`), with versions as numbers. They are chosen
once, from the base job, as for any training: those of the validation split, or a share of the videos that no trial
trains on. Noise and noise levels follow from the clips' places in it, so they are the same for all trials as well.
"""

from __future__ import annotations

from cineray.errors import UsageError
from cineray.feed import FeedSpec, resolve
from cineray.plan import Recipe
from cineray.sweep.config import JudgeConfig, SweepJob
from cineray.sweep.search import trials_of
from cineray.train.resolve import group_of_videos, resolved


def definite(job: SweepJob) -> SweepJob:
    """The job that means the same tomorrow: pinned versions, the labels that there are, how many trials it is, and what
    they are judged on. One that is definite comes out as it is."""
    own = job.base.validation
    given = job.judge.recipe or own.recipe
    told = {
        "every_steps": own.every_steps or 1,  # not 0: for what is not judged no clips are held out
        "recipe": None if given is None else resolve(given),
        "clips": job.judge.clips or own.clips,
    }
    base = resolved(job.base.model_copy(update={"validation": own.model_copy(update=told)}))
    asked = base.validation.recipe
    assert asked is not None
    if given is not None:
        _check_apart(base.recipe, asked)
    if job.judge.recipe is None:
        asked = _asked(asked, job.judge)
        _check_has_clips(asked)
    base = base.model_copy(update={"validation": base.validation.model_copy(update={"recipe": asked})})
    judge = job.judge.model_copy(update={"recipe": asked, "clips": told["clips"]})
    return job.model_copy(update={"base": base, "judge": judge, "trials": trials_of(job)})


def _check_apart(training: Recipe, judging: Recipe) -> None:
    """A recipe that was given by hand was held out by nobody. Only ids are read."""
    trained_on, judged_on = _videos(training), _videos(judging)
    shared = {video for _, video, _ in judged_on} & {video for _, video, _ in trained_on}
    groups = {(lake, group) for lake, _, group in trained_on}
    recordings = {video for lake, video, group in judged_on if (lake, group) in groups} - shared
    if not (shared or recordings):
        return
    judged = len({video for _, video, _ in judged_on})
    told = f"of {judged} videos that trials are judged on (judge.recipe, or base.validation.recipe), {len(shared)} are"
    told += f" trained on too, and {len(recordings)} more are of groups that are trained on"
    some = ", ".join(sorted(shared or recordings)[:3])
    raise UsageError(
        f"{told}, such as {some}: what is learnt by heart would count as skill. Give the two different splits or "
        "filters, or leave the recipe out: then videos are held out by themselves"
    )


def _videos(recipe: Recipe) -> set[tuple[str, str, str]]:
    """(lake, video, its group) of all that a recipe may draw."""
    return {(spec.lake, video, group) for spec in recipe.datasets for video, group in group_of_videos(spec).items()}


def _asked(recipe: Recipe, judge: JudgeConfig) -> Recipe:
    """The base job's held-out clips, at the instants and in the size that the sweep asks for."""
    values = recipe.model_dump(mode="json")
    if judge.sampling is not None:
        values["sampling"] = judge.sampling.model_dump(mode="json")
    if judge.frame is not None:
        values["frame"] = judge.frame.model_dump(mode="json")
    if judge.sampling is None and judge.frame is None:
        return recipe
    if recipe.buckets:
        if len(recipe.buckets) > 1 and (judge.sampling is None or judge.frame is None):
            raise UsageError(
                "the base job has several buckets, and what trials are judged on has one shape: give judge.sampling "
                "(with frames) and judge.frame (with height and width), or neither to be judged on all buckets"
            )
        first = recipe.buckets[0]
        values["buckets"] = []
        values["batch_size"] = None if recipe.token_budget else recipe.size_of(first)
        _fill(values["sampling"], frames=first.frames)
        _fill(values["frame"], height=first.height, width=first.width)
    _fill(values["sampling"], frames=recipe.shapes[0].frames)
    _fill(values["frame"], height=recipe.shapes[0].height, width=recipe.shapes[0].width)
    return Recipe.model_validate(values)


def _fill(values: dict[str, object], **missing: int) -> None:
    values |= {name: value for name, value in missing.items() if values.get(name) is None}


def _check_has_clips(recipe: Recipe) -> None:
    try:
        FeedSpec(recipe=recipe).open()
    except UsageError as error:
        raise UsageError(
            f"there is nothing to judge trials on: {error}\nAsk for shorter clips (judge.sampling), or hold out more "
            "(base.validation.held_out)"
        ) from error
