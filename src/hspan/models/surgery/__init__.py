"""Changes to networks that exist already (Section IV-C3): HSPA inserted, softmax replaced.

Networks keep their keys and their classes, so their checkpoints keep loading, and every change can
be taken back. ``save_model`` writes the changes beside the weights, ``load_model`` repeats them.
"""

from hspan.models.surgery._insertion import HSPAReport, Insertion, add_hspa, remove_hspa
from hspan.models.surgery._record import changes, repeat_changes
from hspan.models.surgery._weighting import (
    Replacement,
    WeightingReport,
    replace_softmax,
    restore_softmax,
)

__all__ = [
    "HSPAReport",
    "Insertion",
    "Replacement",
    "WeightingReport",
    "add_hspa",
    "changes",
    "remove_hspa",
    "repeat_changes",
    "replace_softmax",
    "restore_softmax",
]
