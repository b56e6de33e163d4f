"""The wheel that carries the binary."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

import build_binary_wheel as wheels


def test_a_wheel_carries_a_binary_that_runs_and_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "zoo"
    binary.write_text('#!/bin/sh\necho "zoo 1.2.3"\n')
    binary.chmod(0o755)
    wheel = wheels.build(binary, tmp_path / "dist")
    assert wheel.name == f"zoo_compute_bin-1.2.3-py3-none-{wheels.tag_of(b'')}.whl"
    assert wheels.build(binary, tmp_path / "again").read_bytes() == wheel.read_bytes()
    monkeypatch.chdir(tmp_path)
    assert wheels.build(Path("zoo"), tmp_path / "beside").read_bytes() == wheel.read_bytes()

    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", site, wheel], check=True)
    program = (
        "import subprocess, zoo_compute, zoo_compute_bin\n"
        "assert zoo_compute.find_binary() == zoo_compute_bin.path().resolve()\n"
        "print(subprocess.check_output([zoo_compute.find_binary(), '--version'], text=True))\n"
    )
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "zoo 1.2.3"
    command = subprocess.run([site / "bin" / "zoo"], env=environment, capture_output=True, text=True, check=True)
    assert command.stdout.strip() == "zoo 1.2.3"


def test_a_linux_wheel_needs_the_c_library_that_its_binary_needs() -> None:
    binary = b"\x7fELF\0GLIBC_2.4\0GLIBC_2.17\0GLIBC_2.9\0NOTGLIBC_9.9\0"
    assert wheels.tag_of(binary) == f"manylinux_2_17_{platform.machine()}"
    with pytest.raises(SystemExit, match="--platform"):
        wheels.tag_of(b"\x7fELF\0")


def test_what_says_no_version_is_no_binary(tmp_path: Path) -> None:
    binary = tmp_path / "zoo"
    binary.write_text("#!/bin/sh\necho hello\n")
    binary.chmod(0o755)
    with pytest.raises(SystemExit, match="hello"):
        wheels.build(binary, tmp_path)
