"""Segments of a training, between which checkpoints are written and validations are done.

A training runs over a *stream* of batches: batch b of epoch e is stream batch e n + b, with n batches in an epoch. The
stream is cut into *intervals*, each of which ends with a validation, and each interval into *segments*, each of which
ends with a checkpoint. One segment is one epoch of the Lightning Trainer, so that every checkpoint stands where
Lightning has nothing under way, and a training goes on from it exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from ...recipes.training_settings import TrainingSettings


@dataclass(frozen=True)
class Segment:
    """Stream batches [start, stop); whether a validation follows, and whether it is the last one of its epoch."""

    start: int
    stop: int
    validates: bool
    ends_epoch: bool


@dataclass(frozen=True)
class Plan:
    """One stage of a training: from stream batch `start` to the end of epoch `epochs`.

    n_batches : batches in an epoch
    epochs : epochs in all, counted from the beginning of the training
    validations_per_epoch : nearly equal intervals that each epoch is cut into (`n_batches` at most)
    validate_every : batches between two validations, whatever the epochs; takes the place of the above
    checkpoint_steps : batches in a segment at most, unless `accumulate` is larger
    accumulate : batches whose gradients make one optimiser step
    first : number of the first segment; the numbers go on from stage to stage

    The optimiser also steps at the end of a segment, as Lightning does at the end of its epochs. Within an interval,
    the segments are therefore cut at multiples of `accumulate`: `checkpoint_steps` changes no gradient.
    """

    n_batches: int
    epochs: int
    validations_per_epoch: int = 1
    validate_every: int | None = None
    checkpoint_steps: int = 200
    accumulate: int = 1
    start: int = 0
    first: int = 0

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The segments in order; the first has the number `first`."""
        found = []
        bounds = [self.start, *self._validations(self.start, self.stop)]
        for k, (start, stop) in enumerate(pairwise(bounds)):
            following = bounds[k + 2] if k + 2 < len(bounds) else None
            ends = following is None or self._epoch_of(following) > self._epoch_of(stop)
            cuts = [start, *self._checkpoints(start, stop)]
            found += [Segment(one, other, other == stop, ends and other == stop) for one, other in pairwise(cuts)]
        return tuple(found)

    @property
    def stop(self) -> int:
        """The stream batch behind the last one of this stage."""
        return max(self.start, self.n_batches * self.epochs)

    @property
    def after(self) -> int:
        """The number behind that of the last segment: what Lightning calls `max_epochs`."""
        return self.first + len(self.segments)

    def segment(self, number: int) -> Segment:
        """The segment of that number; behind the last one, an empty one."""
        if number >= self.after:
            return Segment(self.stop, self.stop, False, False)
        return self.segments[number - self.first]

    @cached_property
    def steps(self) -> int:
        """Optimiser steps of this stage."""
        return sum(-(-(segment.stop - segment.start) // self.accumulate) for segment in self.segments)

    @cached_property
    def steps_per_epoch(self) -> float:
        """Optimiser steps in an epoch; a mean where validations have a pace of their own."""
        if self.validate_every:
            return self.steps * self.n_batches / max(1, self.stop - self.start)
        bounds = [0, *self._validations(0, self.n_batches)]
        return sum(-(-(stop - start) // self.accumulate) for start, stop in pairwise(bounds))

    def epochs_at(self, batch: int) -> float:
        """Epochs done before that stream batch, such as 2.25."""
        return batch / self.n_batches

    def validations_in(self, epochs: int) -> int:
        """The number of validations in so many epochs, rounded up."""
        if self.validate_every:
            return -(-epochs * self.n_batches // self.validate_every)
        return epochs * min(self.validations_per_epoch, self.n_batches)

    def _epoch_of(self, stop: int) -> int:
        """The epoch (from 0) of the batch before `stop`."""
        return (stop - 1) // self.n_batches

    def _validations(self, start: int, stop: int) -> Iterator[int]:
        """Where in (start, stop] validations are done, in order; at `stop` in any case."""
        if stop <= start:
            return
        if self.validate_every:
            yield from range(start + self.validate_every, stop, self.validate_every)
        else:
            n, parts = self.n_batches, min(self.validations_per_epoch, self.n_batches)
            for epoch in range(start // n, -(-stop // n)):
                bounds = (epoch * n + part * n // parts for part in range(1, parts + 1))
                yield from (bound for bound in bounds if start < bound < stop)
        yield stop

    def _checkpoints(self, start: int, stop: int) -> Iterator[int]:
        """Where in (start, stop] checkpoints are written, in order: as evenly as multiples of `accumulate` allow."""
        blocks = -(-(stop - start) // self.accumulate)
        parts = -(-blocks // max(1, self.checkpoint_steps // self.accumulate))
        for part in range(1, parts):
            yield start + part * blocks // parts * self.accumulate
        yield stop


def plan_of(settings: TrainingSettings, n_batches: int, start: int = 0, first: int = 0) -> Plan:
    """The plan of a stage from stream batch `start`, with segment `first`, to the end of the recipe's epochs."""
    return Plan(
        n_batches=n_batches,
        epochs=settings.epochs,
        validations_per_epoch=settings.validations_per_epoch,
        validate_every=settings.validate_every_steps,
        checkpoint_steps=settings.checkpoint_steps,
        accumulate=settings.accumulate,
        start=start,
        first=first,
    )
