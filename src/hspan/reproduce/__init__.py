"""The paper's figures and tables from running code, published numbers beside measured ones."""

from hspan.reproduce._experiments import EXPERIMENTS, Outcome, reproduce, reproduce_all
from hspan.reproduce._job import Job
from hspan.reproduce._settings import BUDGETS

__all__ = ["BUDGETS", "EXPERIMENTS", "Job", "Outcome", "reproduce", "reproduce_all"]
