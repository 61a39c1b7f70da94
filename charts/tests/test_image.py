"""The Dockerfile, as far as it can be judged without an engine."""

import pathlib
import subprocess
import sys

from chart import ROOT


def instructions():
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [line.split(maxsplit=1) for line in lines if line and line[0] != "#"]


def test_the_linter_has_nothing_to_say():
    hadolint = pathlib.Path(sys.executable).parent / "hadolint"
    ran = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_program_is_built_from_the_lock_file_and_does_not_run_as_root():
    made = instructions()
    builds = [text for word, text in made if word == "RUN" and "cargo build" in text]
    assert len(builds) == 1 and "--locked" in builds[0]
    # The user that the chart names as well: the volume belongs to it.
    assert [text for word, text in made if word == "USER"] == ["65532:65532"]
    toolchain = next(text for word, text in made if word == "FROM")
    minimum = next(line for line in (ROOT / "Cargo.toml").read_text().splitlines() if line.startswith("rust-version"))
    assert f"rust:{minimum.split(chr(34))[1]}-" in toolchain
