"""Adapters to other people's programs, each in its own module and behind its own extra.

``hub`` needs huggingface_hub, ``ray`` Ray Data, ``spandrel`` spandrel, ``video`` PyAV; nothing is
imported before it is asked for.
"""
