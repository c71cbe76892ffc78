"""The packages of the extra ``export``, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any, TypeAlias

from hspan.errors import UsageError

OnnxModel: TypeAlias = Any
"""``onnx.ModelProto``; nothing here can name it where the extra isn't installed."""


def package(name: str) -> Any:
    """Import a module of ``onnx``, ``onnxscript`` or ``onnxruntime``.

    Raises:
        UsageError: it isn't installed, with the command that installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise UsageError(
            f"exporting to ONNX needs the package {missing}: pip install 'hspan[export]'"
        ) from error
