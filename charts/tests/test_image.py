"""The Dockerfile, as far as it can be judged without an engine."""

import json
import pathlib
import shutil
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


def test_the_context_holds_what_the_build_needs_and_no_more(tmp_path):
    # Given what .dockerignore lets through: it denies everything, and names what may pass
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    passed = {line[1:] for line in lines if line.startswith("!")}
    for name in passed:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, tmp_path / name)
    # When cargo reads it
    ran = subprocess.run(
        ["cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    # Then every package of the workspace and each of its targets is there
    assert ran.returncode == 0, ran.stderr
    packages = json.loads(ran.stdout)["packages"]
    assert {"tasklog", "tasklog-log", "tasklog-projections", "tasklog-replay", "tasklog-testing"} == {each["name"] for each in packages}
    for package in packages:
        for target in package["targets"]:
            assert pathlib.Path(target["src_path"]).is_file()
    # And nothing that the program includes lies outside.
    for file in tmp_path.rglob("*.rs"):
        for text in file.read_text().split("include_str!(\"")[1:]:
            assert (file.parent / text.split('"')[0]).resolve().is_relative_to(tmp_path), file
