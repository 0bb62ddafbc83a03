"""``gmrt infer``: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gmrt.cli import infer
from gmrt.runtime.points import KINDS
from gmrt.runtime.scene import read_scene

FIELDS = [
    "image",
    "prompt",
    "text",
    "points",
    "places",
    "value",
    "unit",
    "confidence",
    "finish_reason",
    "tokens",
    "timings_ms",
    "model",
    "unfamiliar",
    "strangeness",
    "scene",
]
SHORT = ("--max-tokens", 4)


@pytest.fixture
def ask(gmrt: Callable, bundle: Path) -> Callable:
    """Run ``gmrt infer`` with the tiny bundle and short answers."""
    return lambda *words: gmrt("infer", *words, "--bundle", bundle, *SHORT)


def test_two_images_are_a_pair(ask: Callable, scene: Path, folder: Path) -> None:
    """Guards against a second image that is dropped: both are named, and both take room in the prompt."""
    (one,) = ask(scene, "what changed?", "--format", "json").records
    (two,) = ask(scene, folder / "b.png", "what changed?", "--format", "json").records
    assert two["image"] == [str(scene), str(folder / "b.png")]
    assert two["tokens"]["prompt"] > one["tokens"]["prompt"]
    assert ask(scene, folder / "b.png", "what changed?", "--bands", "1,2,3", "--format", "json").status == 0


def test_bands_are_chosen(ask: Callable, scene: Path) -> None:
    """Guards against --bands that is parsed and then forgotten."""
    assert ask(scene, "describe", "--bands", "1,2,9").status == 2
    answers = [
        ask(scene, "describe", "--bands", bands, "--format", "json").records[0]
        for bands in ("1,2,3", "red=3,green=2,blue=1")
    ]
    assert answers[0]["confidence"] != answers[1]["confidence"]


def test_json_has_the_documented_fields(ask: Callable, scene: Path) -> None:
    """Guards against a renamed or forgotten field, which would break every script that reads the output."""
    run = ask(scene, "describe", "--format", "json")
    assert run.status == 0, run.err
    (record,) = run.records
    assert list(record) == FIELDS
    assert record["image"] == str(scene)
    assert record["prompt"] == "describe"
    assert set(record["tokens"]) == {"prompt", "reused", "generated"}
    assert set(record["timings_ms"]) == {"load", "read", "vision", "prefill", "decode"}
    assert set(record["model"]) == {"id", "precision", "provider"}
    assert 1 <= record["tokens"]["generated"] <= 4


def test_text_is_the_answer_and_nothing_else(ask: Callable, scene: Path) -> None:
    """Guards against logs on stdout: the text output is the JSON output's text."""
    text = ask(scene, "describe")
    record = ask(scene, "describe", "--format", "json").records[0]
    assert text.out == record["text"] + "\n"


def test_more_prompts_reuse_the_image(ask: Callable, scene: Path) -> None:
    """Guards against encoding the image again for each --ask."""
    first, second = ask(scene, "describe", "--ask", "is there water?", "--format", "json").records
    assert [first["prompt"], second["prompt"]] == ["describe", "is there water?"]
    assert first["tokens"]["reused"] == 0
    assert second["tokens"]["reused"] > 0


def test_choices_and_yes_no_bind_the_answer(ask: Callable, scene: Path) -> None:
    """Guards against a constraint that is parsed and then forgotten: an untrained model would not answer so."""
    assert ask(scene, "what is it?", "--choices", "beach, harbor").out.strip() in {"beach", "harbor"}
    assert ask(scene, "is it?", "--yes-no").out.strip() in {"yes", "no"}


def test_number_and_points_bind_the_answer(gmrt: Callable, bundle: Path, scene: Path) -> None:
    """Guards against --number, --points or --max-regions that is parsed and then forgotten."""
    ask = ("--bundle", bundle, "--format", "json")
    (counted,) = gmrt("infer", scene, "how many?", "--number", *ask).records
    assert 0 <= int(counted["text"]) < 1000
    for points, most in (("any", 1), ("box", 2)):
        (record,) = gmrt("infer", scene, "where?", "--points", points, "--max-regions", most, *ask).records
        assert len(record["points"]) <= most
        assert {region["kind"] for region in record["points"]} <= ({"box"} if points == "box" else set(KINDS))
        assert record["points"] or record["text"] == "none"


def test_overlay_draws_the_places(gmrt: Callable, bundle: Path, scene: Path, tmp_path: Path) -> None:
    """Guards against a picture of another size, one without the places, and places without a word whose they are."""
    picture = tmp_path / "places.png"
    ask = ("infer", scene, "where?", "--bundle", bundle, "--format", "json", "--overlay", picture)
    run = gmrt(*ask, "--ask", "and where?", "--points", "box", "--max-regions", 2)
    assert run.status == 0, run.err
    before, after = read_scene(scene).rgb, read_scene(picture).rgb
    assert before.shape == after.shape
    legend = [line for line in run.err.splitlines() if line.startswith(f"gmrt: {picture}: ")]
    placed = [record for record in run.records if record["points"]]
    colours = [
        f"gmrt: {picture}: {name}: {record['prompt']} ({len(record['points'])})"
        for name, record in zip(("yellow", "cyan"), placed, strict=False)
    ]
    assert placed
    assert legend == colours
    assert (before != after).any()
    assert [file.name for file in tmp_path.iterdir()] == ["places.png"]


def test_overlay_without_places_is_the_picture(gmrt: Callable, bundle: Path, scene: Path, tmp_path: Path) -> None:
    """Guards against a picture that is missing, or said to show what it does not."""
    picture = tmp_path / "nothing.png"
    run = gmrt("infer", scene, "is it?", "--yes-no", "--bundle", bundle, "--overlay", picture)
    assert (run.status, "no answer names a place" in run.err) == (0, True)
    assert (read_scene(scene).rgb == read_scene(picture).rgb).all()


def test_seed_makes_sampling_repeatable(ask: Callable, scene: Path) -> None:
    """Guards against a --seed that does not reach the sampler."""
    hot = ("--temperature", 2, "--max-tokens", 12)
    runs = [ask(scene, "describe", *hot, "--seed", seed).out for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_output_file_appears_whole(ask: Callable, scene: Path, tmp_path: Path) -> None:
    """Guards against a result on both sides, and a temporary file left beside it."""
    result = tmp_path / "answers" / "one.json"
    result.parent.mkdir()
    run = ask(scene, "describe", "--format", "json", "-o", result)
    assert (run.status, run.out) == (0, "")
    assert json.loads(result.read_text())["prompt"] == "describe"
    assert list(result.parent.iterdir()) == [result]


def test_failed_run_leaves_the_old_output(ask: Callable, scene: Path, tmp_path: Path) -> None:
    """Guards against an output file that is emptied before the answer exists."""
    result = tmp_path / "answer.txt"
    result.write_text("from before")
    assert ask(tmp_path / "missing.tif", "describe", "-o", result).status == 2
    assert result.read_text() == "from before"


def test_folder_is_answered_image_by_image(ask: Callable, folder: Path) -> None:
    """Guards against a folder run that skips an image, or trips over a file that is none."""
    run = ask(folder, "describe")
    assert run.status == 0, run.err
    assert [Path(record["image"]).name for record in run.records] == ["a.tif", "b.png", "c.tif"]


def test_folder_goes_on_where_it_stopped(ask: Callable, folder: Path, tmp_path: Path) -> None:
    """Guards against asking everything again after a cut, and against keeping the torn line that a cut leaves."""
    output = tmp_path / "answers.jsonl"
    assert ask(folder, "describe", "-o", output).status == 0
    whole = output.read_text()
    lines = whole.splitlines(keepends=True)
    marked = lines[0].replace('"describe"', '"describe" ', 1)  # same JSON, other bytes: shows that the line was kept
    output.write_text(marked + lines[1] + lines[2][:20])
    assert ask(folder, "describe", "-o", output).status == 0
    kept = output.read_text().splitlines(keepends=True)
    assert kept[:2] == [marked, lines[1]]
    assert json.loads(kept[2])["text"] == json.loads(lines[2])["text"]
    assert len(kept) == 3


def test_folder_records_a_bad_image_and_tries_it_again(ask: Callable, folder: Path, tmp_path: Path) -> None:
    """Guards against one bad file that ends the run, goes unnoticed in the exit status, or is never retried."""
    output = tmp_path / "answers.jsonl"
    good = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(b"not a picture")
    run = ask(folder, "describe", "-o", output)
    assert run.status == 1
    assert "b.png" in run.err
    assert ["error" in json.loads(line) for line in output.read_text().splitlines()] == [False, True, False]
    (folder / "b.png").write_bytes(good)
    assert ask(folder, "describe", "-o", output).status == 0
    assert ["error" in json.loads(line) for line in output.read_text().splitlines()] == [False, False, False]


def test_folder_refuses_a_file_that_is_not_its_own(ask: Callable, folder: Path, tmp_path: Path) -> None:
    """Guards against appending to, or emptying, a file that holds something else."""
    output = tmp_path / "diary.txt"
    output.write_text("dear diary\n")
    run = ask(folder, "describe", "-o", output)
    assert run.status == 2
    assert output.read_text() == "dear diary\n"


BAD_INPUT = {
    "no prompt": ("{scene}", "no prompt"),
    "prompt is a file": ("{scene}|{scene}", "no prompt"),
    "no image": ("describe", "no image"),
    "missing image": ("{folder}/missing.tif|describe", "missing.tif"),
    "text file": ("{folder}/notes.txt|describe", "notes.txt"),
    "empty prompt": ("{scene}|  ", "empty"),
    "empty folder": ("{empty}|describe", "no image"),
    "folder in a pair": ("{folder}|{scene}|describe", "folder"),
    "unknown option": ("{scene}|describe|--loud", "--loud"),
    "unknown provider": ("{scene}|describe|--provider|abacus", "--provider"),
    "empty choice": ("{scene}|describe|--choices|a,,b", "choice"),
    "two constraints": ("{scene}|describe|--choices|a,b|--yes-no", "yes"),
    "no kind of place": ("{scene}|describe|--points|circle", "--points"),
    "bound without places": ("{scene}|describe|--max-regions|3", "points"),
    "places and a number": ("{scene}|describe|--points|box|--number", "exclude"),
    "tiles of a pair": ("{scene}|{scene}|what changed?|--tiles", "one image"),
    "tiles of a folder": ("{folder}|describe|--tiles", "one image"),
    "tile size without tiles": ("{scene}|describe|--tile-size|64", "--tiles"),
    "region of a folder": ("{folder}|describe|--region|0,0,9,9", "one image"),
    "places of a folder": ("{folder}|describe|--format|geojson", "one image"),
    "region that is none": ("{scene}|describe|--region|0,0,9", "--region"),
    "region beside the image": ("{scene}|describe|--region|900,900,990,990", "64 × 64"),
    "two regions": ("{scene}|describe|--region|0,0,9,9|--at|1,2", "--at"),
    "spot elsewhere": ("{scene}|describe|--at|1,2", "outside"),
    "spot without a georeference": ("{folder}/b.png|describe|--at|1,2", "georeference"),
    "box that is none": ("{scene}|describe|--bbox|10,20,10,30", "10,20,10,30"),
    "area that is none": ("{scene}|describe|--aoi|{folder}/notes.txt", "GeoJSON"),
    "area that is not there": ("{scene}|describe|--aoi|{folder}/none.geojson", "no such file"),
    "pair of two places": ("{scene}|{folder}/c.tif|what changed?", "overlap"),
    "two forms": ("{scene}|describe|--format|geojson|-o|{folder}/a.gpkg", "a.gpkg"),
    "mask that is no GeoTIFF": ("{scene}|describe|--mask|{folder}/m.png", ".tif"),
    "overlay of a folder": ("{folder}|describe|--overlay|{folder}/o.png", "one image"),
    "overlay over the image": ("{folder}/b.png|describe|--overlay|{folder}/b.png", "b.png"),
    "overlay that is no PNG": ("{scene}|describe|--overlay|{folder}/o.jpg", ".png"),
    "no such output folder": ("{scene}|describe|-o|{folder}/none/answer.txt", "none"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_sentence(ask: Callable, scene: Path, folder: Path, case: str) -> None:
    """Guards against a traceback, or a page of usage, where one sentence says what is wrong."""
    empty = folder.parent / "empty"
    empty.mkdir()
    words, clue = BAD_INPUT[case]
    run = ask(*words.format(scene=scene, folder=folder, empty=empty).split("|"))
    assert (run.status, run.out) == (2, "")
    assert len(run.err.splitlines()) == 1
    assert run.err.startswith("gmrt: ")
    assert clue in run.err


def test_json_errors_are_objects_on_stderr(ask: Callable, tmp_path: Path) -> None:
    """Guards against a script that meets a sentence where it asked for JSON, or an error among the results."""
    for words in ((tmp_path / "missing.tif", "describe"), (tmp_path, "describe", "--max-tokens", "many")):
        run = ask(*words, "--format", "json")
        assert run.out == ""
        report = json.loads(run.err)
        assert set(report) == {"error", "exit_code"}
        assert report["exit_code"] == run.status == 2
        assert report["error"]["message"]


def test_altered_bundle_is_refused(gmrt: Callable, bundle: Path, scene: Path, tmp_path: Path) -> None:
    """Guards against running weights that are not those that were exported."""
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    data = bytearray((copy / "decoder.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "decoder.onnx").write_bytes(data)
    run = gmrt("infer", scene, "describe", "--bundle", copy)
    assert (run.status, run.out) == (2, "")
    assert "decoder.onnx" in run.err
    assert len(run.err.splitlines()) == 1


def test_reader_that_leaves_is_no_error(bundle: Path, folder: Path) -> None:
    """Guards against a traceback when the output goes to a program that has seen enough, as `head -1` has."""
    command = [sys.executable, "-m", "gmrt", "infer", str(folder), "describe", "--bundle", str(bundle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_answer_streams_to_a_terminal(ask: Callable, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a streamed answer that differs from the one that is returned whole."""
    whole = ask(scene, "describe").out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert ask(scene, "describe").out == whole


def test_words_are_parted() -> None:
    """Guards against a prompt taken for an image, or an image for a prompt."""
    assert infer.split(["a.tif", "b.tif", "what changed?"]) == ([Path("a.tif"), Path("b.tif")], "what changed?")
    assert infer.comma_separated(" a, b c ,d") == ("a", "b c", "d")
    assert infer.comma_separated(None) is None


def test_an_empty_prompt_is_called_empty() -> None:
    """Guards against an empty prompt taken for a file, because pathlib reads "" as the current directory."""
    assert infer.split(["scene.tif", ""]) == ([Path("scene.tif")], "")
