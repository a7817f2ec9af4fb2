"""Hatch's build hook: compiles the CNI program for the wheel, which is for one architecture."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# pip runs this file in any directory, before the project can be imported.
sys.path.insert(0, str(Path(__file__).parent))

from cni.build import PROGRAM_PATH, compile_plugin


class PluginBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # generic in name only
    """Compiles ``cni/plugin.c``; the wheel has the program in ``cni``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the program; hatchling calls this before it builds a wheel (editable or not)."""
        compile_plugin(PROGRAM_PATH)
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append("cni/plugin")
