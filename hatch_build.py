"""Compiles the optional kernel for eight-bit products while the package is built; without a compiler it is left out.

`python hatch_build.py` compiles it in place, for work on the kernel itself.
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

SOURCE = Path("src/trasluz/layers/int8_kernel.cpp")
LIBRARY = Path("src/trasluz/layers/_int8_kernel.so")


def compile_kernel(root: Path) -> Path | None:
    """Return the compiled library; None where there is no compiler, or another system than x86-64 Linux."""
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if not compiler or sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    library = root / LIBRARY
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as name:
        compiled, linked = Path(name) / "kernel.o", Path(name) / "kernel.so"
        # Linked without -fopenmp: the threads are those of the library that torch brings along.
        steps = (
            [compiler, "-O3", "-std=c++17", "-fPIC", "-fopenmp", "-c", str(root / SOURCE), "-o", str(compiled)],
            [compiler, "-shared", str(compiled), "-o", str(linked)],
        )
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode:
                print(f"the int8 kernel is left out: {done.stderr.strip()[:500]}", file=sys.stderr)
                return None
        linked.replace(library)
    return library


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:
    pass
else:

    class KernelHook(BuildHookInterface):  # type: ignore[misc,type-arg,unused-ignore]
        """Called by hatchling for wheels and for editable installs."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Compile, and put the library into the wheel, which then is one for this kind of machine."""
            if self.target_name == "wheel" and (library := compile_kernel(Path(self.root))):
                if version != "editable":
                    build_data["force_include"][str(library)] = "trasluz/layers/_int8_kernel.so"
                build_data["pure_python"] = False
                build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


if __name__ == "__main__":
    print(compile_kernel(Path(__file__).parent) or "not compiled")
