"""Compiles the optional kernels while the package is built; without a compiler they are left out.

`python hatch_build.py` compiles them in place, for work on the kernels themselves.
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

KERNELS = Path("src/trasluz/layers/kernels")
LIBRARY = "_kernels.so"


def compile_kernels(root: Path) -> Path | None:
    """Return the compiled library; None where there is no compiler, or another system than x86-64 Linux."""
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if not compiler or sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    folder = root / KERNELS
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as name:
        sources = sorted(folder.glob("*.cpp"))
        objects = [Path(name) / f"{source.stem}.o" for source in sources]
        linked = Path(name) / LIBRARY
        steps = [
            [compiler, "-O3", "-std=c++17", "-fPIC", "-fopenmp", "-c", str(source), "-o", str(made)]
            for source, made in zip(sources, objects, strict=True)
        ]
        # Linked without -fopenmp: the threads are those of the library that torch brings along.
        steps.append([compiler, "-shared", *map(str, objects), "-o", str(linked)])
        for step in steps:
            try:
                subprocess.run(step, capture_output=True, text=True, check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                reason = getattr(error, "stderr", None) or error
                print(f"the compiled kernels are left out: {str(reason).strip()[:500]}", file=sys.stderr)
                return None
        linked.replace(folder / LIBRARY)
    return folder / LIBRARY


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:
    pass
else:

    class KernelHook(BuildHookInterface):  # type: ignore[misc,type-arg,unused-ignore]
        """Called by hatchling for wheels and for editable installs."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Compile, and put the library into the wheel, which then is one for this kind of machine."""
            if self.target_name == "wheel" and (library := compile_kernels(Path(self.root))):
                if version != "editable":
                    build_data["force_include"][str(library)] = f"trasluz/layers/kernels/{LIBRARY}"
                build_data["pure_python"] = False
                build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


if __name__ == "__main__":
    print(compile_kernels(Path(__file__).parent) or "not compiled")
