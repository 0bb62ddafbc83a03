"""What every stage asks of Hugging Face's Trainer: its arguments, one process first, progress, and curves."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from gmrt.georsmllm.recipe import Stage

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of mallopt(3)."""
SAVE_STEPS = 100
"""Steps between checkpoints of a running training: some minutes on 2 cores."""
PATIENCE = timedelta(days=1)
"""How long processes wait for the one that makes features or scenes."""


def processes() -> PartialState:
    """The processes of ``accelerate launch``, or the one there is without it."""
    cpu = not torch.cuda.is_available() or bool(parse_flag_from_env("ACCELERATE_USE_CPU"))
    return PartialState(cpu=cpu, timeout=PATIENCE)


@contextmanager
def one_first() -> Iterator[None]:
    """Run the block in the main process while the others wait; they run it afterwards, and find what it has made."""
    state = processes()
    if not state.is_main_process:
        state.wait_for_everyone()
    try:
        yield
    finally:
        if state.is_main_process:
            state.wait_for_everyone()


def arguments(stage: Stage, output: Path, seed: int) -> TrainingArguments:
    """Arguments of a stage; events for TensorBoard lie in ``steps/runs`` where it is installed."""
    return TrainingArguments(
        output_dir=str(output / "steps"),
        num_train_epochs=1,  # the passes are inside the dataset, each in an order of its own
        train_sampling_strategy="sequential",
        per_device_train_batch_size=stage.batch,
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup,
        lr_scheduler_type="cosine",
        weight_decay=stage.weight_decay,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        logging_steps=max(1, min(10, stage.images // stage.batch // 10)),
        save_steps=SAVE_STEPS,
        save_total_limit=2,
        remove_unused_columns=False,
        report_to=["tensorboard"] if find_spec("tensorboard") else [],
        disable_tqdm=True,
        seed=seed,
        dataloader_num_workers=0,
        use_cpu=not torch.cuda.is_available(),
        ddp_timeout=int(PATIENCE.total_seconds()),
    )


def run(trainer: Trainer, output: Path) -> None:
    """Train, from the newest checkpoint of an interrupted run if there is one; progress goes to stderr."""
    trainer.remove_callback(PrinterCallback)  # writes to stdout, where the result goes
    trainer.add_callback(Curves(output))
    trainer.train(resume_from_checkpoint=last_step(output / "steps"))


def keep_memory() -> None:
    """Let the C library keep what is freed instead of giving it back: a CPU training takes it again in the next step.

    Every large tensor is otherwise mapped anew and its pages are zeroed when first touched. On 2 cores the tower's
    forward pass took 110 ms of processor time an image, 62 of them in the kernel, and 38 ms with this
    (docs/training.md). Only glibc knows these settings; elsewhere this does nothing.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if (mallopt := getattr(library, "mallopt", None)) is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def last_step(steps: Path) -> str | None:
    """The newest complete checkpoint of an interrupted run."""
    found = [p for p in steps.glob("checkpoint-*") if (p / "trainer_state.json").is_file()]
    return str(max(found, key=lambda p: int(p.name.split("-")[1]))) if found else None


class Curves(TrainerCallback):
    """Says the loss on stderr, and writes ``curves.json`` and, where matplotlib is installed, ``curves.png``."""

    def __init__(self, output: Path) -> None:
        self.output = output

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say how far the stage has come."""
        entry = state.log_history[-1]
        if state.is_world_process_zero and "loss" in entry:
            step = f"step {state.global_step}/{state.max_steps}"
            print(f"{self.output.name}: {step}, loss {entry['loss']:.3f}", file=sys.stderr, flush=True)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the curves so far."""
        if not state.is_world_process_zero:
            return
        points = [entry for entry in state.log_history if "loss" in entry]
        (self.output / "curves.json").write_text(json.dumps(points), encoding="utf-8")
        if points and find_spec("matplotlib"):
            draw(points, self.output / "curves.png")

    on_train_end = on_save


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Draw logged ``points`` (step, loss, learning_rate) as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    left = figure.subplots()
    steps = [float(p["step"]) for p in points]
    left.plot(steps, [float(p["loss"]) for p in points], color="tab:blue")
    left.set_xlabel("step")
    left.set_ylabel("loss", color="tab:blue")
    right = left.twinx()
    right.plot(steps, [float(p["learning_rate"]) for p in points], color="tab:orange", linewidth=1)
    right.set_ylabel("learning rate", color="tab:orange")
    figure.savefig(path, dpi=110)
