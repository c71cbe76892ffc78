"""Fig. 5: crops of images with repeating structure."""

from hspan.reproduce._crops import compare_crops
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report


def run(job: Job) -> Report:
    """Upscale, cut out, score."""
    return compare_crops(job, "Fig. 5: barbara and 253027")
