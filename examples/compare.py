"""Print answers beside the truth of a generated scene; torch is not needed.

    gmrt sample scene.tif
    gmrt infer scene.tif "locate the ships" --format json --output answers.jsonl
    python examples/compare.py scene.json answers.jsonl

The truth is found by the prompt, in the wording that scene.json has.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gmrt.georsmllm.evaluation.geometry import match, read_regions


def main(truth: Path, answers: Path) -> None:
    """Print each prompt with its answer and its truth; of places also how many agree."""
    known = {request["prompt"]: request for request in json.loads(truth.read_text())["requests"]}
    for line in answers.read_text().splitlines():
        answer = json.loads(line)
        request = known.get(answer["prompt"])
        print(f'"{answer["prompt"]}"')
        print(f"  answer: {answer['text']}")
        if request is None:
            print(f"  truth:  {truth} does not hold this prompt")
            continue
        print(f"  truth:  {request['answer']}")
        if request["task"] in ("detect", "refer", "describe"):
            met = match(read_regions(request["answer"]) or (), read_regions(answer["text"]))
            print(f"          {met.hits} of {met.wanted} found (IoU 0.5 or more), {met.given - met.hits} beside them")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
