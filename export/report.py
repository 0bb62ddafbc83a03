"""The report of an export: ``report/report.html`` and ``report.json`` in the bundle's directory.

It lies in a folder of its own that no manifest lists, like the caches of ``engines/``: a reader of bundles never opens
it, the bundle's hash does not cover it, and whoever ships the bundle may delete it. The page needs nothing but itself:
no script, no font, no picture from elsewhere; the plots are inline SVG.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from gmrt.export.gate import Report
from gmrt.export.layers import LayerError
from gmrt.export.plan import Plan
from gmrt.export.sensitivity import LayerScan
from gmrt.runtime.manifest import Manifest

FOLDER = "report"

_WIDTH, _HEIGHT, _LEFT, _BELOW = 920, 260, 64, 24
_FLOOR, _CEILING = 1e-7, 1.0
"""Losses that the plots reach from and to."""


@dataclass(frozen=True)
class Findings:
    """All that a report tells: the gate's, the tower layer by layer, and of a scan its table and the plan."""

    gate: Report
    layers: Sequence[LayerError]
    table: Sequence[LayerScan] = ()
    plan: Plan | None = None


def write_report(folder: Path, manifest: Manifest, found: Findings) -> None:
    """Write the report into a bundle's directory ``folder``."""
    target = folder / FOLDER
    target.mkdir(exist_ok=True)
    record = {
        "id": manifest.id,
        "name": manifest.name,
        "precision": manifest.precision,
        "target": manifest.target,
        "created": manifest.created,
        "checkpoint": manifest.provenance.get("checkpoint"),
        "bytes": sizes(manifest),
        "parity": found.gate.to_dict(),
        "tower_layers": [asdict(layer) for layer in found.layers],
        "scan": [layer.to_dict() for layer in found.table],
        "plan": None if found.plan is None else found.plan.to_dict(),
    }
    (target / "report.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (target / "report.html").write_text(_page(record), encoding="utf-8")


def sizes(manifest: Manifest) -> dict[str, int]:
    """Bytes by component; what belongs to none of the graphs, nor to table and locator, is counted together."""
    parts = {"vision": manifest.vision.file, "decoder": manifest.decoder.file, "embeddings": manifest.embeddings.file}
    if manifest.heads is not None:
        parts["heads"] = manifest.heads.file
    if manifest.locator is not None:
        parts["locator"] = manifest.locator
    found = dict.fromkeys([*parts, "tokenizer and profiles"], 0)
    for name, entry in manifest.files.items():
        # Weights beside a graph, and the scales beside a table, begin with the name of what they belong to.
        owner = next((part for part, file in parts.items() if name.startswith(file.partition(".")[0])), None)
        found[owner or "tokenizer and profiles"] += entry.bytes
    return found


def _page(record: Mapping[str, Any]) -> str:
    parity = record["parity"]
    decoder = [(row["tensor"], 1 - row["cosine"]) for row in parity["tensors"] if row["component"] == "decoder"]
    tower = [(layer["layer"], 1 - layer["cosine"]) for layer in record["tower_layers"]]
    scans = [(entry["layer"], entry["choices"]) for entry in record["scan"]]
    narrowest = [(layer, 1 - choices[-1]["cosine"]) for layer, choices in scans]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["mb"] = lambda count: f"{count / 1e6:.2f} MB"
    environment.filters["percent"] = lambda share: f"{100 * share:.2f} %"
    environment.filters["loss"] = lambda cosine: f"{1 - cosine:.2e}"
    return environment.from_string(_TEMPLATE).render(
        record=record,
        parity=parity,
        limits=_limits(parity["limits"]),
        total=sum(record["bytes"].values()),
        tower=plot(tower),
        decoder=plot(decoder),
        alone=plot(narrowest) if narrowest else None,
        chosen=(record["plan"] or {}).get("layers", {}),
    )


def _limits(limits: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, float, str]]:
    words = {
        "vision": "least cosine, vision and locator",
        "vision_norm": "largest change of norm, vision and locator",
        "decoder": "least cosine, decoder",
        "decoder_norm": "largest change of norm, decoder and table",
        "table": "least cosine, token table",
        "top1": "least share of equal top tokens",
        "task": "least task score",
        "integer": "least integer share of products with weights",
        "values": "largest error of a scalar, standard deviations",
    }
    return [(words.get(name, name), limit["value"], limit["why"]) for name, limit in limits.items()]


def plot(losses: Iterable[tuple[str, float]]) -> Markup:
    """One column a layer, as inline SVG: 1 − cosine, on a logarithmic scale from 1e-7 to 1.

    A loss that is not a number has the full height. Each column tells its layer when pointed at.
    """
    points = list(losses)
    step = (_WIDTH - _LEFT) / max(1, len(points))
    parts = []
    decades = round(math.log10(_CEILING / _FLOOR))
    for decade in range(decades + 1):
        y = _HEIGHT * decade / decades
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">1e-{decade}</text>'
        )
    for index, (name, loss) in enumerate(points):
        height = _HEIGHT * _share(loss)
        label = escape(f"{name}: {loss:.2e}")
        parts.append(
            f'<rect x="{_LEFT + index * step + 0.1 * step:.1f}" y="{_HEIGHT - height:.1f}" width="{0.8 * step:.1f}" '
            f'height="{height:.1f}" fill="#27638f"><title>{label}</title></rect>'
        )
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT + 16}">first layer</text>')
    parts.append(f'<text x="{_WIDTH}" y="{_HEIGHT + 16}" text-anchor="end">last layer</text>')
    box = f'viewBox="0 -8 {_WIDTH} {_HEIGHT + _BELOW + 8}"'
    return Markup(f'<svg {box} role="img">{"".join(parts)}</svg>')


def _share(loss: float) -> float:
    """Height of a column in 0…1."""
    if not loss <= _CEILING:
        return 1.0
    return math.log10(max(loss, _FLOOR) / _FLOOR) / math.log10(_CEILING / _FLOOR)


_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ record.name }}, {{ record.precision }}: export report</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: #444; }
.ok { color: #176b3a; } .no { color: #a3211b; } code { font-size: .92em; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>{{ record.name }}, {{ record.precision }} for {{ record.target }}</h1>
<p>Bundle <code>{{ record.id }}</code>, made {{ record.created }} of the checkpoint
<code>{{ record.checkpoint }}</code>. The gate was
{% if parity.passed %}<strong class="ok">passed</strong>{% else %}<strong class="no">failed</strong>{% endif %} on
{{ parity.source }}: {{ parity.cases }} questions, {{ parity.positions }} tokens, {{ parity.ties }} ties.</p>

<h2>Answers</h2>
<table>
<tr><th>measure</th><th class="n">value</th></tr>
<tr><td>top token the same, teacher-forced</td><td class="n">{{ parity.top1 | percent }}</td></tr>
<tr><td>free answers the same to the last token</td><td class="n">{{ parity.exact | percent }}</td></tr>
<tr><td>task score</td><td class="n">{{ parity.task_score | percent }}</td></tr>
{% for row in parity.scores %}
<tr><td>&emsp;{{ row.task }}, {{ row.cases }} answers</td><td class="n">{{ row.agreement | percent }}</td></tr>
{% endfor %}
{% for row in parity.scalars %}
<tr><td>{{ row.measure }}, {{ row.component }}: mean error in standard deviations</td>
<td class="n">{{ "%.2e" | format(row.average) }}</td></tr>
{% endfor %}
</table>

<h2>What computes</h2>
<p>Of the optimised graphs, at the stated shape.</p>
<table>
<tr><th>graph</th><th>shape</th><th class="n">products</th><th class="n">integer</th>
<th class="n">of those with weights</th><th class="n">stray Q/DQ</th></tr>
{% for row in parity.kernels %}
<tr><td>{{ row.graph }}</td><td>{{ row.shape }}</td><td class="n">{{ "%.1f" | format(row.macs / 1e6) }} M</td>
<td class="n">{{ row.integer_share | percent }}</td><td class="n">{{ row.weighted_share | percent }}</td>
<td class="n">{{ row.stray_pairs }}</td></tr>
{% endfor %}
</table>
{% for row in parity.kernels %}
<details><summary>{{ row.graph }}, {{ row.shape }}: what is float</summary>
<table>
{% for product in row.float_products %}
<tr><td>{{ product.name }}</td><td>{{ product.op }}</td>
<td class="n">{{ (product.macs / row.macs) | percent }}</td></tr>
{% endfor %}
{% for op, names in row.float_ops.items() %}
<tr><td colspan="2">{{ op }} × {{ names | length }}</td><td>{{ names | join(", ") }}</td></tr>
{% endfor %}
</table></details>
{% endfor %}

<h2>Size</h2>
<table>
<tr><th>component</th><th class="n">bytes</th><th class="n">share</th></tr>
{% for name, count in record.bytes.items() if count %}
<tr><td>{{ name }}</td><td class="n">{{ count | mb }}</td><td class="n">{{ (count / total) | percent }}</td></tr>
{% endfor %}
<tr><td>together</td><td class="n">{{ total | mb }}</td><td class="n"></td></tr>
</table>

<h2>Error by layer: tower</h2>
<p>1 − cosine to the float values of each layer; errors add up from left to right.</p>
{{ tower }}
<h2>Error by layer: decoder</h2>
<p>1 − cosine of keys and values of each layer, the last hidden state and the logits, fed with exact embeddings.</p>
{{ decoder }}
{% if alone %}
<h2>Sensitivity</h2>
<p>1 − cosine of the logits when one layer alone is quantised, in the narrowest form that it may have.</p>
{{ alone }}
<table>
<tr><th>layer</th><th>here</th><th>precision</th><th class="n">bytes</th>
<th class="n">1 − cosine</th><th class="n">KL</th></tr>
{% for layer in record.scan %}{% for choice in layer.choices %}
<tr><td>{% if loop.first %}{{ layer.layer }}{% endif %}</td>
<td>{% if chosen.get(layer.layer) == choice.precision %}chosen{% endif %}</td><td>{{ choice.precision }}</td>
<td class="n">{{ choice.bytes }}</td><td class="n">{{ choice.cosine | loss }}</td>
<td class="n">{{ "%.2e" | format(choice.kl) }}</td></tr>
{% endfor %}{% endfor %}
</table>
{% endif %}

<h2>Tensors</h2>
<table>
<tr><th>component</th><th>tensor</th><th class="n">cosine</th>
<th class="n">norm ratio</th><th class="n">worst case</th></tr>
{% for row in parity.tensors %}
<tr><td>{{ row.component }}</td><td>{{ row.tensor }}</td><td class="n">{{ "%.6f" | format(row.cosine) }}</td>
<td class="n">{{ "%.4f" | format(row.norm_ratio) }}</td><td class="n">{{ "%.6f" | format(row.worst) }}</td></tr>
{% endfor %}
</table>
<h2>Limits</h2>
<table>
<tr><th>limit</th><th class="n">value</th><th>why</th></tr>
{% for name, value, why in limits %}
<tr><td>{{ name }}</td><td class="n">{{ value }}</td><td>{{ why }}</td></tr>
{% endfor %}
</table>
<h2>Tower layers</h2>
<table>
<tr><th>layer</th><th class="n">cosine</th><th class="n">norm ratio</th></tr>
{% for layer in record.tower_layers %}
<tr><td>{{ layer.layer }}</td><td class="n">{{ "%.6f" | format(layer.cosine) }}</td>
<td class="n">{{ "%.4f" | format(layer.norm_ratio) }}</td></tr>
{% endfor %}
</table>
</body>
</html>
"""
