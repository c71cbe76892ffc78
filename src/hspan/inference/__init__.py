"""Upscaling images and image files: tiles that fit the machine, blended without seams."""

from hspan.inference._assembly import Planes
from hspan.inference.batch import Outcome, batch_settings, failure_reason, upscale_batch
from hspan.inference.ensemble import self_ensemble
from hspan.inference.files import MAX_PIXELS, Job, check_source, plan_files, upscale_file
from hspan.inference.forecast import Forecast, forecast_file
from hspan.inference.manifest import Entry, Manifest, ManifestError
from hspan.inference.pipes import upscale_pipe
from hspan.inference.planning import Plan, network_cost, plan
from hspan.inference.sources import Failure
from hspan.inference.streaming import stream_file
from hspan.inference.tiling import Grid
from hspan.inference.upscaler import Report, Upscaler

__all__ = [
    "MAX_PIXELS",
    "Entry",
    "Failure",
    "Forecast",
    "Grid",
    "Job",
    "Manifest",
    "ManifestError",
    "Outcome",
    "Plan",
    "Planes",
    "Report",
    "Upscaler",
    "batch_settings",
    "check_source",
    "failure_reason",
    "forecast_file",
    "network_cost",
    "plan",
    "plan_files",
    "self_ensemble",
    "stream_file",
    "upscale_batch",
    "upscale_file",
    "upscale_pipe",
]
