"""One table of scores for a model on a dataset: captions, classes, questions, beside what needs no image at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmrt.georsmllm import prompts
from gmrt.georsmllm.data import DatasetError, Example, read_parquet
from gmrt.georsmllm.evaluation.predict import Predictor, open_predictor
from gmrt.georsmllm.evaluation.scores import Score, caption_scores, majority_baseline, mean_score, normalise

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Item:
    """One scored answer: the image's number and name, the task, the finer kind, what was asked, wanted and given."""

    image: int
    name: str
    task: str
    kind: str
    question: str
    wanted: str
    given: str

    @property
    def right(self) -> float:
        """1.0 when the normalised texts agree, else 0.0."""
        return float(normalise(self.wanted) == normalise(self.given))


def ask_all(predictor: Predictor, examples: Sequence[Example], progress: Progress | None = None) -> list[Item]:
    """Ask for a caption, the class and every known question of each example, in the canonical wording."""
    items: list[Item] = []
    for number, example in enumerate(examples):
        asked = [("caption", "", prompts.CAPTION[0], "\n".join(example.captions))] if example.captions else []
        if example.scene_class:
            asked.append(("class", example.scene_class, prompts.CLASS[0], example.scene_class))
        asked.extend(("qa", q.kind, q.text, q.answer) for q in example.questions)
        given = predictor.answers(example.image, [question for _, _, question, _ in asked])
        for (task, kind, question, wanted), answer in zip(asked, given, strict=True):
            items.append(Item(number, example.name, task, kind, question, wanted, answer))
        if progress:
            progress(number + 1, len(examples))
    return items


def score(items: Sequence[Item], examples: Sequence[Example], seed: int = 0) -> dict[str, dict[str, Score]]:
    """Scores by task: ``caption``, ``class``, ``qa`` (all and by kind) and ``baseline`` (answers without the image)."""
    by_task = {task: [item for item in items if item.task == task] for task in ("caption", "class", "qa")}
    result: dict[str, dict[str, Score]] = {}
    if captions := by_task["caption"]:
        wanted = [item.wanted.split("\n") for item in captions]
        result["caption"] = caption_scores([item.given for item in captions], wanted, seed)
    if classes := by_task["class"]:
        result["class"] = {"accuracy": _accuracy(classes, seed)}
    if questions := by_task["qa"]:
        kinds = sorted({item.kind for item in questions})
        result["qa"] = {"all": _accuracy(questions, seed)}
        result["qa"].update({kind: _accuracy([i for i in questions if i.kind == kind], seed) for kind in kinds})
        images = [item.image for item in questions]
        answers = [normalise(item.wanted) for item in questions]
        asked = [normalise(item.question) for item in questions]
        seen = [f"{examples[item.image].scene_class}: {text}" for item, text in zip(questions, asked, strict=True)]
        result["baseline"] = {
            "question only": mean_score(majority_baseline(asked, answers, images), images, seed),
            "question and class": mean_score(majority_baseline(seen, answers, images), images, seed),
        }
    return result


def _accuracy(items: Sequence[Item], seed: int) -> Score:
    return mean_score([item.right for item in items], [item.image for item in items], seed)


def run(
    model: Path | str, dataset: Path | str, *, limit: int | None = None, seed: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """Evaluate a bundle or a checkpoint on a parquet file; ``limit`` takes the first images only.

    Returns a JSON-ready dictionary: model, dataset, images, scores {task: {name: {value, low, high, items}}} and every
    answer. Raises `DatasetError` when the set holds nothing to ask.
    """
    examples = read_parquet(dataset)[:limit]
    if not any(e.captions or e.scene_class or e.questions for e in examples):
        raise DatasetError(f"{dataset}: no captions, classes or questions to score against")
    predictor = open_predictor(model)
    items = ask_all(predictor, examples, progress)
    scores = score(items, examples, seed)
    return {
        "model": predictor.name,
        "dataset": Path(dataset).name,
        "images": len(examples),
        "scores": {task: {name: s.to_dict() for name, s in table.items()} for task, table in scores.items()},
        "answers": [{**vars(item), "right": bool(item.right)} for item in items],
    }


def format_table(result: dict[str, Any]) -> str:
    """The scores as a plain table with 95 % intervals; accuracies in per cent, caption scores on their raw scale."""
    lines = [f"{result['model']} on {result['dataset']}, {result['images']} images", ""]
    lines.append(f"{'task':<10}{'score':<22}{'value':>8}   {'95 % interval':<18}{'items':>6}")
    for task, table in result["scores"].items():
        for name, s in table.items():
            scale, digits = (1, 3) if task == "caption" else (100, 1)
            value, low, high = (f"{s[key] * scale:.{digits}f}" for key in ("value", "low", "high"))
            lines.append(f"{task:<10}{name:<22}{value:>8}   {low + ' … ' + high:<18}{s['items']:>6}")
    return "\n".join(lines)
