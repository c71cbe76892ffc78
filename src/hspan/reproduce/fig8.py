"""Fig. 8: soft thresholding in the place of softmax in CSNLN, NLSN and SAN."""

from hspan.reproduce._job import Job
from hspan.reproduce._report import Report
from hspan.reproduce._transplants import transplant


def run(job: Job) -> Report:
    """Train the networks with softmax and with soft thresholding."""
    title = "Fig. 8: soft thresholding for softmax in CSNLN, NLSN and SAN"
    return transplant(job, "soft-threshold", title, ("softmax", "ST"), "soft thresholding")
