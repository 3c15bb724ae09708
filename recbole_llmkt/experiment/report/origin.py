"""What a reader asks first: when, by which commands, and what the arms are."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_llmkt.experiment.report.findings import Findings
from recbole_llmkt.experiment.runs.arms import ARMS, arm_of
from recbole_llmkt.experiment.runs.records import RunRecord

_READY = {
    "base": "the model alone, without profiles",
    "kt": "the model with the profiles",
}
_CONTROLS = {
    "none": "the profiles",
    "shuffled": "everybody has somebody else's profile",
    "random": "random vectors in place of the profiles",
    "zero": "zeros in place of the profiles",
}


def dates(findings: Findings) -> str:
    """Return the days on which the runs ended, in UTC: ``2026-12-01``; "" if none was noted."""
    days = sorted({f"{record.time:%Y-%m-%d}" for record in findings.records if record.time})
    return " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))


def commands(findings: Findings) -> list[str]:
    """Return the commands that made the runs, each once, in their order."""
    return list(dict.fromkeys(record.command for record in findings.records if record.command))


def arm_lines(findings: Findings) -> list[tuple[str, str]]:
    """Return each arm's name, and what it is in a line."""
    return [(arm, _described(arm, findings.records)) for arm in findings.unique("arm")]


def _described(arm: str, records: Sequence[RunRecord]) -> str:
    own = [record for record in records if record.arm == arm]
    owner = arm_of(arm)
    if arm != owner:
        controls = {str(record.settings.get("kt_control", "")) for record in own}
        words = " or ".join(_CONTROLS.get(control, control) for control in sorted(controls))
        return f"the control of {owner}: {words}".rstrip(": ")
    names = dict.fromkeys(key for record in own for key in record.arm_keys or ())
    keys = ", ".join(_setting(key, own) for key in names if key not in ARMS["kt"])
    ready = _READY.get(arm, "kt with other keys" if not keys else "kt")
    return f"{ready} with {keys}" if keys else ready


def _setting(key: str, records: Sequence[RunRecord]) -> str:
    """Return a key with its value, or alone where models differ."""
    found = [record.settings[key] for record in records if key in record.settings]
    values = {f"{value:.6g}" if isinstance(value, float) else str(value) for value in found}
    return f"{key}={values.pop()}" if len(values) == 1 else key
