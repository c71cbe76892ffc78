"""Table III: all methods at ×3 under blur and decimation."""

from hspan.reproduce._comparison import compare
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report


def run(job: Job) -> Report:
    """Score what has weights here, beside the published rows."""
    return compare(job, "BD", "III")
