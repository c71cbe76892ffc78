"""Upscaling images and image files: tiles that fit the machine, blended without seams."""

from hspan.inference._assembly import Planes
from hspan.inference.ensemble import self_ensemble
from hspan.inference.files import Failure, Job, plan_files, upscale_file
from hspan.inference.forecast import Forecast, forecast_file
from hspan.inference.planning import Plan, network_cost, plan
from hspan.inference.streaming import stream_file
from hspan.inference.tiling import Grid
from hspan.inference.upscaler import Report, Upscaler

__all__ = [
    "Failure",
    "Forecast",
    "Grid",
    "Job",
    "Plan",
    "Planes",
    "Report",
    "Upscaler",
    "forecast_file",
    "network_cost",
    "plan",
    "plan_files",
    "self_ensemble",
    "stream_file",
    "upscale_file",
]
