"""A ComfyUI custom node folder that adds no nodes: ComfyUI's own "Load Upscale Model" learns HSPAN.

Copy or link this folder as ``custom_nodes/hspan`` and install hspan into ComfyUI's Python.
"""

from hspan.integrations.spandrel import install

install()

# ComfyUI takes a folder for a custom node by this name.
NODE_CLASS_MAPPINGS = {}
