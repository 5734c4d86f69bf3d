"""Whether containers can be entered here, and what is missing where they cannot."""

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ENTER = Path(__file__).with_name("enter.py")


@functools.cache
def missing() -> str:
    """What the machine does not allow, in the kernel's words; nothing where a container can be entered."""
    if not sys.platform.startswith("linux"):
        return f"mount and process namespaces are Linux's, this is {sys.platform}"
    with tempfile.TemporaryDirectory(prefix="plane-") as folder:
        root, plan = Path(folder, "root"), Path(folder, "plan.json")
        root.mkdir()
        argv = [sys.executable, "-I", "-S", "-c", ""]
        plan.write_text(
            json.dumps({"root": str(root), "binds": [["/", "", False]], "cwd": "/", "argv": argv, "env": {}})
        )
        tried = subprocess.run([*argv[:3], str(ENTER), str(plan)], capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return ""
    said = tried.stderr.strip() or f"exit code {tried.returncode}"
    return f"{said}; it takes root with CAP_SYS_ADMIN and CAP_SYS_CHROOT, or user namespaces that may mount"
