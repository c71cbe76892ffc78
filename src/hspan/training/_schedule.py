"""Learning rate as a function of the step alone, so that resuming restores nothing."""

import math

from hspan.training._recipe import ScheduleSection


def lr_factor(schedule: ScheduleSection, step: int, max_steps: int) -> float:
    """What the learning rate is multiplied by at one step.

    Args:
        schedule: multistep, Section IV-A: 2 ** -(step // halve_every); cosine: half a period from
            the end of the warm-up to ``max_steps``; trapezoid: 1, and over the last ``descent``
            steps a line to 0.
        step: counted from 0.
        max_steps: where cosine and trapezoid reach zero.

    Returns:
        Between 0 and 1.
    """
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    if schedule.halve_every is not None:
        return 0.5 ** (step // schedule.halve_every)
    if schedule.descent is not None:
        return min(max((max_steps - step) / schedule.descent, 0.0), 1.0)
    progress = (step - schedule.warmup) / max(max_steps - schedule.warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
