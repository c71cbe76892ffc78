"""Fig. 7: HSPA inserted in FSRCNN, EDSR and RCAN."""

from hspan.reproduce._job import Job
from hspan.reproduce._report import Report
from hspan.reproduce._transplants import transplant


def run(job: Job) -> Report:
    """Train the networks with and without HSPA at its usual places."""
    title = "Fig. 7: HSPA inserted in FSRCNN, EDSR and RCAN"
    return transplant(job, "hspa", title, ("without HSPA", "with HSPA"), "HSPA")
