"""``gmrt bench``: how fast a bundle is here, phase by phase, with what the board says about itself meanwhile."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gmrt.cli.options import FormatOption, ProviderOption
from gmrt.cli.output import json_line

if TYPE_CHECKING:
    from gmrt.runtime.boards import Board
    from gmrt.runtime.model import Model

_SEED = 0
_QUESTION = "describe"


def bench(
    bundle: Annotated[Path | None, typer.Argument(help="The bundle's directory; the shipped one without it.")] = None,
    runs: Annotated[
        int, typer.Option(min=1, metavar="N", help="Runs of each phase, after one that is not counted.")
    ] = 5,
    tokens: Annotated[int, typer.Option(min=2, metavar="N", help="Tokens to decode in each run.")] = 64,
    board: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print beside it what is projected for this Jetson.")
    ] = None,
    provider: ProviderOption = "cpu",
    output_format: FormatOption = "text",
) -> None:
    """Time load, tower, prefill and decode; the last line is one JSON object.

    The work is fixed: an image of noise at the model's own size, the question "describe", and as many tokens as asked
    for, because the end token does not end it. On a Jetson power, clocks and temperatures are sampled, and the
    projection for the board stands beside what is measured.
    """
    from gmrt.runtime.boards import find_board
    from gmrt.runtime.model import SHIPPED, load
    from gmrt.runtime.telemetry import Sampler, Sensors, read_jetson

    wanted = None if board is None else find_board(board)
    started = perf_counter()
    model = load(bundle or SHIPPED, provider=provider)
    loaded = perf_counter() - started
    jetson = read_jetson()
    if wanted is None and jetson is not None:
        wanted = jetson.board
    report = measure(model, runs=runs, tokens=tokens, sampler=lambda: Sampler(Sensors()))
    report["load_ms"] = loaded * 1e3
    report["projected"] = None if wanted is None else _projected(model, wanted)
    report["machine"] = {
        "arch": platform.machine(),
        "python": platform.python_version(),
        "board": None if jetson is None else jetson.model,
        "mode": None if jetson is None else jetson.mode,
    }
    if output_format == "text":
        typer.echo(_table(report))
    typer.echo(json_line(report), nl=False)


def measure(model: Model, *, runs: int, tokens: int, sampler: Callable[[], Any]) -> dict[str, Any]:
    """Medians over ``runs`` of each phase, in ms, of a loaded model; ``sampler`` makes what watches the decoding."""
    import numpy as np

    from gmrt.runtime.generate import decode_tokens
    from gmrt.runtime.image import prepare
    from gmrt.runtime.memory import METRIC, read_status
    from gmrt.runtime.prompt import encode_prompt
    from gmrt.runtime.sampling import make_sampler

    bundle, backend = model.bundle, model.backend
    manifest = bundle.manifest
    spec = manifest.image
    noise = np.random.default_rng(_SEED).integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
    prompt = encode_prompt(
        _QUESTION,
        images=1,
        tokens_per_image=spec.tokens,
        tokenizer=bundle.tokenizer,
        template=bundle.template,
        layout=manifest.prompt,
    )
    length = len(prompt.ids)
    tokens = min(tokens, model.max_capacity - length)
    started = perf_counter()
    backend.prepare_vision()
    tower_load = perf_counter() - started
    decoder = backend.bind(backend.new_cache(min(model.max_capacity, length + tokens)))
    sampling = make_sampler(temperature=0.0, top_k=0, top_p=1.0, seed=_SEED)
    spent: dict[str, list[float]] = {"preprocess": [], "tower": [], "prefill": [], "decode": []}
    watched: list[Any] = []
    for _ in range(runs + 1):
        times = [perf_counter()]
        pixels = prepare(noise, spec)[None]
        times.append(perf_counter())
        encoded = backend.encode(pixels)
        times.append(perf_counter())
        decoder.cache.truncate(0)
        embeds = bundle.table.lookup(prompt.ids)
        embeds[prompt.ids == manifest.prompt.image_token_id] = encoded.embeds.reshape(-1, embeds.shape[1])
        logits = decoder.prefill(embeds[None], np.array([[length - 1]]))[0, 0]
        times.append(perf_counter())
        with sampler() as watching:
            produced = decode_tokens(
                decoder,
                bundle.table,
                logits,
                sampler=sampling,
                constraint=None,
                eos=frozenset(),
                max_tokens=tokens,
                rewind_to=length,
            )
            count = sum(1 for _ in produced)
        times.append(perf_counter())
        watched.append(watching)
        for name, begin, end in zip(spent, times, times[1:], strict=False):
            spent[name].append((end - begin) * 1e3)
    medians = {name: statistics.median(values[1:]) for name, values in spent.items()}
    return {
        "model": {"id": model.id, "name": model.name, "precision": model.precision, "provider": model.provider},
        "work": {"image": [spec.height, spec.width], "prompt_tokens": length, "decoded_tokens": count, "runs": runs},
        "tower_load_ms": tower_load * 1e3,
        **{f"{name}_ms": value for name, value in medians.items()},
        "first_token_ms": medians["preprocess"] + medians["tower"] + medians["prefill"],
        "prefill_tokens_per_s": length / medians["prefill"] * 1e3,
        # The first of the tokens comes from the prefill, so one step less was run.
        "decode_tokens_per_s": (count - 1) / medians["decode"] * 1e3,
        "peak": {"metric": METRIC, "bytes": read_status(METRIC)},
        "board": _watched(watched[1:], count - 1),
    }


def _watched(samplers: list[Any], steps: int) -> dict[str, Any] | None:
    """What the sensors said while tokens were decoded; None on a machine without any of them."""
    readings = [reading for sampler in samplers for reading in sampler.readings]
    joules = [sampler.joules for sampler in samplers if sampler.joules is not None]
    clocks = {name: max(r.hertz.get(name, 0) for r in readings) for reading in readings for name in reading.hertz}
    hottest = [max(reading.celsius.values()) for reading in readings if reading.celsius]
    if not (joules or clocks or hottest):
        return None
    return {
        "joules": statistics.median(joules) if joules else None,
        "tokens_per_joule": steps / statistics.median(joules) if joules else None,
        "watts": {
            rail: statistics.mean(reading.watts[rail] for reading in readings if rail in reading.watts)
            for rail in (readings[0].watts if readings else {})
        },
        "hertz": clocks,
        "celsius": max(hottest, default=None),
        "throttled": any(sampler.throttled for sampler in samplers),
    }


def _projected(model: Model, board: Board) -> dict[str, Any] | None:
    """What is projected for a board; None for a bundle of no known preset."""
    from gmrt.runtime.projection import project, workload_of

    found = workload_of(model.bundle.manifest)
    if found is None:
        return None
    expected = project(found, board)
    return {
        "board": board.name,
        "workload": found.name,
        "tower_ms": expected.tower_ms,
        "prefill_ms": expected.prefill_ms,
        "first_token_ms": expected.first_token_ms,
        "decode_tokens_per_s": expected.decode,
    }


def _table(report: dict[str, Any]) -> str:
    projected = report["projected"] or {}
    head = f"projected, {projected['board']}" if projected else ""
    lines = [f"{report['model']['name']} {report['model']['precision']} on {report['model']['provider']}{'':18}{head}"]
    for name in ("load", "tower_load", "preprocess", "tower", "prefill", "first_token"):
        expected = projected.get(f"{name}_ms")
        beside = "" if expected is None else f"{expected:12.2f} ms"
        lines.append(f"{name.replace('_', ' '):14}{report[f'{name}_ms']:12.2f} ms{beside}")
    expected = projected.get("decode_tokens_per_s")
    beside = "" if expected is None else f"{expected:9.1f} tok/s"
    lines.append(f"{'decode':14}{report['decode_tokens_per_s']:9.1f} tok/s{beside}")
    peak = report["peak"]["bytes"]
    lines.append(
        f"{'peak':14}{'unavailable' if peak is None else f'{peak / 2**20:12.1f} MiB'} ({report['peak']['metric']})"
    )
    seen = report["board"]
    if seen is not None and seen["tokens_per_joule"] is not None:
        lines.append(f"{'energy':14}{seen['tokens_per_joule']:12.2f} tokens per joule")
    if seen is not None and seen["throttled"]:
        lines.append("the board was held back by heat or current while this was measured")
    return "\n".join(lines)
