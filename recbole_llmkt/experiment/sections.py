"""Tables of a report beside the main one: tests, slices, profiles, settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole_llmkt.experiment.findings import Findings
from recbole_llmkt.experiment.knowledge import uses
from recbole_llmkt.experiment.results import Record
from recbole_llmkt.experiment.tables import gain_text, value_text

TESTS_HEAD = (
    *("model", "arm", "against", "metric", "users", "difference"),
    *("Wilcoxon p", "t-test p", "p after Holm", "seeds", "95% over seeds", "proven"),
)
SLICES_HEAD = ("part", "users", "model", "arm", "metric", "value", "gain")
PROFILES_HEAD = ("model", "arm", "entity", "profiles", "coverage", "written by", "encoded by")
TUNING_HEAD = ("model", "arm", "trials", "failed", "best trial", "by validation", "keys", "space")
_PROVEN = {1: "better", -1: "worse", 0: "no"}


def tests_rows(found: Findings) -> list[list[str]]:
    """Return a row of :data:`TESTS_HEAD` for each pair of arms."""
    rows = []
    for pair in found.pairs:
        names = [pair.model, pair.arm, pair.rival, pair.metric, str(pair.users)]
        tests = [p_text(one) for one in (pair.wilcoxon, pair.ttest, pair.holm)]
        seeds, count = "", "0"
        if pair.seeds is not None:
            count = str(pair.seeds.n)
            if pair.seeds.low is not None:
                seeds = f"{pair.seeds.low:+.4f} to {pair.seeds.high:+.4f}"
        difference = f"{pair.difference:+.4f}" if pair.users else ""
        rows.append([*names, difference, *tests, count, seeds, _PROVEN[pair.proven]])
    return rows


def p_text(p: float) -> str:
    """Format a p-value: ``0.032``, ``< 0.001``, or nothing if there was no test."""
    if p != p:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def slices_rows(found: Findings) -> list[list[str]]:
    """Return a row of :data:`SLICES_HEAD` for each part, model and arm, by the primary metric."""
    return [
        [
            f"{one.part} ({one.bounds})",
            f"{one.users:.0f}",
            cell.model,
            cell.arm,
            cell.metric,
            value_text(cell.value),
            gain_text(cell.gain),
        ]
        for one in found.slices
        for cell in one.cells
        if cell.metric == found.primary(cell.model)
    ]


def profiles_rows(found: Findings) -> list[list[str]]:
    """Return a row of :data:`PROFILES_HEAD` for each kind of profile that an arm used."""
    rows = []
    for record in found.good:
        for _, term in uses(record):
            row = [
                record["model"],
                record["arm"],
                term.get("entity", ""),
                str(term.get("profiles", "")),
                f"{100 * term['coverage']:.1f}%" if "coverage" in term else "",
                str(term.get("generator", "")),
                str(term.get("encoder", "")),
            ]
            if row not in rows:
                rows.append(row)
    return rows


def tuning_rows(found: Findings) -> list[list[str]]:
    """Return a row of :data:`TUNING_HEAD` for each arm that `llmkt tune` chose the keys of."""
    rows = []
    for record in found.records:
        tuned = record.get("tuned")
        if tuned:
            keys = ", ".join(f"{key}: {_short(value)}" for key, value in tuned["keys"].items())
            numbers = [str(tuned[name]) for name in ("trials", "failed", "trial")]
            last = tuned["seed"] + tuned.get("seeds", 1) - 1
            seeds = f"seed {last}" if last == tuned["seed"] else f"seeds {tuned['seed']} to {last}"
            score = f"{tuned['metric']} {tuned['score']:.4f} ({seeds})"
            row = [record["model"], record["arm"], *numbers, score, keys or "as given"]
            row.append(str(tuned["space"]))
            if row not in rows:
                rows.append(row)
    return rows


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else _text(value)


def shared_settings(records: Sequence[Record]) -> list[tuple[str, str]]:
    """List the keys that have one value in all runs that use them."""
    return sorted((key, texts.pop()) for key, texts in _values(records).items() if len(texts) == 1)


def own_settings(records: Sequence[Record]) -> list[dict[str, Any]]:
    """List, by model, the keys that are not the same everywhere, with each arm's value."""
    shared = {key for key, _ in shared_settings(records)} | {"seed", "model"}
    rows = []
    for model in dict.fromkeys(record["model"] for record in records):
        arms = {r["arm"]: r.get("settings", {}) for r in records if r["model"] == model}
        for key in sorted({key for settings in arms.values() for key in settings} - shared):
            texts = {arm: _text(values[key]) for arm, values in arms.items() if key in values}
            rows.append({"model": model, "key": key, "texts": texts})
    return rows


def _values(records: Sequence[Record]) -> dict[str, set[str]]:
    """Return the values that each key has in these runs."""
    found: dict[str, set[str]] = {}
    for record in records:
        for key, value in record.get("settings", {}).items():
            found.setdefault(key, set()).add(_text(value))
    return found


def _text(value: Any) -> str:
    return "~" if value is None else str(value)
