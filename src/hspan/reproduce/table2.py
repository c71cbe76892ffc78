"""Table II: all methods at ×2, ×3 and ×4 under bicubic reduction."""

from hspan.reproduce._comparison import compare
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report


def run(job: Job) -> Report:
    """Score what has weights here, beside the published rows."""
    return compare(job, "BI", "II")
