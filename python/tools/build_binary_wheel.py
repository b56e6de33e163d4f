#!/usr/bin/env python3
"""Makes the wheel zoo-compute-bin of a `zoo` binary: the package `zoo_compute_bin`, and the command `zoo`.

    python tools/build_binary_wheel.py --binary target/release/zoo --out dist

The wheel is for the platform that the binary is for: on Linux its tag names the oldest C library that has every
symbol that the binary needs. Equal binaries give equal wheels.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import platform
import re
import subprocess
import sysconfig
import zipfile
from pathlib import Path

NAME = "zoo_compute_bin"
PYTHON = '''"""The zoo binary of this platform."""

import os
import subprocess
import sys
from pathlib import Path


def path() -> Path:
    """Where the binary is."""
    return Path(__file__).with_name("BINARY")


def main() -> None:
    """Runs it, in place of this process where that can be."""
    line = [str(path()), *sys.argv[1:]]
    if sys.platform == "win32":
        sys.exit(subprocess.run(line).returncode)
    os.execv(line[0], line)
'''
METADATA = """Metadata-Version: 2.4
Name: zoo-compute-bin
Version: {version}
Summary: The zoo binary, for zoo_compute.local_network
License-Expression: Apache-2.0 OR MIT
Requires-Python: >=3.10
"""
WHEEL = """Wheel-Version: 1.0
Generator: build_binary_wheel.py
Root-Is-Purelib: false
Tag: py3-none-{tag}
"""
ENTRY_POINTS = "[console_scripts]\nzoo = zoo_compute_bin:main\n"
# Zip files know no earlier day.
EPOCH = (1980, 1, 1, 0, 0, 0)


def version_of(binary: Path) -> str:
    """What the binary says it is."""
    said = subprocess.run([binary.resolve(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+\.\d+\.\d+", said)
    if found is None:
        raise SystemExit(f"{binary} --version says {said.strip()!r}, which has no version")
    return found[0]


def tag_of(data: bytes) -> str:
    """The platform that a binary needs."""
    if not data.startswith(b"\x7fELF"):
        return re.sub(r"[-.]", "_", sysconfig.get_platform())
    needed = [tuple(map(int, found)) for found in re.findall(rb"\bGLIBC_(\d+)\.(\d+)", data)]
    if not needed:
        raise SystemExit(
            "the binary names no C library\nhint: say what it is for with --platform, as musllinux_1_2_x86_64"
        )
    major, minor = max(needed)
    return f"manylinux_{major}_{minor}_{platform.machine()}"


def build(binary: Path, out: Path, tag: str | None = None, version: str | None = None) -> Path:
    """Writes the wheel and returns where it is."""
    data = binary.read_bytes()
    tag, version = tag or tag_of(data), version or version_of(binary)
    executable = "zoo.exe" if tag.startswith("win") else "zoo"
    info = f"{NAME}-{version}.dist-info"
    files = [
        (f"{NAME}/__init__.py", PYTHON.replace("BINARY", executable).encode(), 0o644),
        (f"{NAME}/py.typed", b"", 0o644),
        (f"{NAME}/{executable}", data, 0o755),
        (f"{info}/METADATA", METADATA.format(version=version).encode(), 0o644),
        (f"{info}/WHEEL", WHEEL.format(tag=tag).encode(), 0o644),
        (f"{info}/entry_points.txt", ENTRY_POINTS.encode(), 0o644),
    ]
    record = "".join(f"{name},sha256={digest(data)},{len(data)}\n" for name, data, _ in files)
    files.append((f"{info}/RECORD", f"{record}{info}/RECORD,,\n".encode(), 0o644))
    out.mkdir(parents=True, exist_ok=True)
    wheel = out / f"{NAME}-{version}-py3-none-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in files:
            entry = zipfile.ZipInfo(name, EPOCH)
            # Modes are those of Unix, wherever this runs.
            entry.create_system = 3
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return wheel


def digest(data: bytes) -> str:
    """As RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def main() -> None:
    """Builds what the command line says."""
    parser = argparse.ArgumentParser(description="Makes a wheel of a zoo binary.")
    parser.add_argument("--binary", type=Path, required=True, help="the zoo binary")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder for the wheel [default: dist]")
    parser.add_argument("--platform", help="platform tag [default: what the binary needs]")
    parser.add_argument("--version", help="version [default: what the binary says]")
    given = parser.parse_args()
    print(build(given.binary, given.out, given.platform, given.version))


if __name__ == "__main__":
    main()
