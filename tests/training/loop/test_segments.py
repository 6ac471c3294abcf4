"""The plan of a training: every batch once, validations and checkpoints where they belong."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclass.recipes.training_settings import TrainingSettings
from skyclass.training.loop.segments import Plan, Segment, plan_of

PLANS = st.builds(
    Plan,
    n_batches=st.integers(1, 30),
    epochs=st.integers(0, 5),
    validations_per_epoch=st.integers(1, 6),
    validate_every=st.none() | st.integers(1, 40),
    checkpoint_steps=st.integers(1, 50),
    accumulate=st.integers(1, 5),
    start=st.integers(0, 60),
    first=st.integers(0, 9),
)


@given(PLANS)
def test_the_segments_cover_the_stream_exactly_once(plan: Plan) -> None:
    batches = [batch for segment in plan.segments for batch in range(segment.start, segment.stop)]
    assert batches == list(range(plan.start, plan.n_batches * plan.epochs))
    assert all(segment.start < segment.stop for segment in plan.segments)
    numbers = range(plan.first, plan.after)
    assert tuple(plan.segment(number) for number in numbers) == plan.segments
    assert plan.segment(plan.after).start == plan.segment(plan.after).stop == plan.stop


@given(PLANS)
def test_a_segment_is_no_longer_than_asked_and_cuts_no_accumulation(plan: Plan) -> None:
    begun = plan.start
    for segment in plan.segments:
        assert segment.stop - segment.start <= max(plan.checkpoint_steps, plan.accumulate)
        assert segment.validates or (segment.stop - begun) % plan.accumulate == 0
        begun = segment.stop if segment.validates else begun


@given(PLANS)
def test_checkpoints_change_neither_validations_nor_steps(plan: Plan) -> None:
    rare = Plan(**{**vars_of(plan), "checkpoint_steps": 10**6})
    validations = [segment.stop for segment in plan.segments if segment.validates]
    assert validations == [segment.stop for segment in rare.segments]
    assert plan.steps == rare.steps
    assert not plan.segments or plan.segments[-1].ends_epoch


def vars_of(plan: Plan) -> dict[str, int | None]:
    return {name: getattr(plan, name) for name in Plan.__dataclass_fields__}


@given(PLANS)
def test_validations_keep_their_pace(plan: Plan) -> None:
    stops = [segment.stop for segment in plan.segments if segment.validates]
    if plan.validate_every:
        gaps = [stop - start for start, stop in pairwise([plan.start, *stops])]
        assert all(gap == plan.validate_every for gap in gaps[:-1])
        assert all(gap <= plan.validate_every for gap in gaps[-1:])
        return
    parts = min(plan.validations_per_epoch, plan.n_batches)
    for epoch in range(-(-plan.start // plan.n_batches), plan.epochs):
        begin = epoch * plan.n_batches
        bounds = [begin, *(stop for stop in stops if begin < stop <= begin + plan.n_batches)]
        gaps = [stop - start for start, stop in pairwise(bounds)]
        assert len(gaps) == parts
        assert bounds[-1] == begin + plan.n_batches
        assert max(gaps) - min(gaps) <= 1


@given(PLANS)
def test_one_validation_is_the_last_of_each_epoch_that_has_one(plan: Plan) -> None:
    last: dict[int, int] = {}
    for segment in plan.segments:
        if segment.validates:
            last[(segment.stop - 1) // plan.n_batches] = segment.stop
    assert sorted(last.values()) == [segment.stop for segment in plan.segments if segment.ends_epoch]
    assert all(segment.validates for segment in plan.segments if segment.ends_epoch)


@given(PLANS, st.data())
def test_a_plan_that_starts_at_a_validation_is_the_rest_of_the_whole(plan: Plan, data: st.DataObject) -> None:
    whole = Plan(**{**vars_of(plan), "start": 0, "first": 0})
    if not whole.segments:
        return
    k = data.draw(st.integers(0, len(whole.segments) - 1).filter(lambda k: whole.segments[k].validates))
    rest = Plan(**{**vars_of(whole), "start": whole.segments[k].stop, "first": k + 1})
    assert rest.segments == whole.segments[k + 1 :]
    assert rest.after == whole.after
    before = sum(-(-(s.stop - s.start) // plan.accumulate) for s in whole.segments[: k + 1])
    assert before + rest.steps == whole.steps


def test_an_example_by_hand() -> None:
    plan = Plan(n_batches=10, epochs=1, validations_per_epoch=3, checkpoint_steps=3, accumulate=2)
    # Intervals [0, 3), [3, 6), [6, 10); segments of two batches at most, which is one step.
    assert [(s.start, s.stop, s.validates) for s in plan.segments] == [
        (0, 2, False),
        (2, 3, True),
        (3, 5, False),
        (5, 6, True),
        (6, 8, False),
        (8, 10, True),
    ]
    assert plan.steps == plan.steps_per_epoch == 6
    assert plan.epochs_at(3) == pytest.approx(0.3)
    assert plan.validations_in(2) == 6


def test_a_pace_of_its_own_by_hand() -> None:
    plan = Plan(n_batches=10, epochs=2, validate_every=8, checkpoint_steps=8)
    assert plan.segments == (
        Segment(0, 8, True, True),  # the only validation of the first epoch: the next one comes after its end
        Segment(8, 16, True, False),
        Segment(16, 20, True, True),
    )
    assert plan.validations_in(1) == 2
    assert plan.steps_per_epoch == 10


def test_a_recipe_becomes_a_plan() -> None:
    settings = {"epochs": 3, "accumulate": 2, "validations_per_epoch": 4, "checkpoint_steps": 7}
    plan = plan_of(TrainingSettings(**settings), 20, start=20, first=5)
    assert plan == Plan(20, 3, 4, None, 7, 2, 20, 5)
    assert plan_of(TrainingSettings(validate_every_steps=9), 20).validate_every == 9
    assert plan_of(TrainingSettings(epochs=0), 20).segments == ()
