"""Studies of others: what they would import, ask or write is today's, or refused."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path

from recbole_llmkt.config import preset_path
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.experiment.tuning.study_file import StudyFile
from recbole_llmkt.keys.saved import reaches_out
from recbole_llmkt.keys.table import KEYS
from recbole_llmkt.utils.exceptions import ConfigError
from recbole_llmkt.utils.parsing import load_yaml
from recbole_llmkt.utils.types import Settings


def check_trust(
    folder: Path, study: StudyFile, points: Iterable[Mapping[str, object]], today: Plan
) -> None:
    """Refuse a study that names code, a server, a secret or a file which today's command does not.

    Parameters
    ----------
    folder : Path
        The study's, for the message.
    study : StudyFile
        Its ``tuning.json``.
    points : iterable of mapping
        Keys and values of its trials.
    today : Plan
        What the command asks for.

    Raises
    ------
    ConfigError
        Naming the key and its value.
    """
    given = {(key, str(value)) for key, value in _named(today, ())}
    of_points = ((key, value) for point in points for key, value in point.items())
    for key, value in (*_named(study, today.overrides), *of_points):
        is_default = key in KEYS and value == KEYS[key].default
        known = is_default or key in today.overrides or (key, str(value)) in given
        if reaches_out(key, value) and not known:
            raise ConfigError(
                f"The study in '{folder}' names {value!r} as its {key}, which may import code, ask "
                "a server or write files: if the study is yours, pass --trust (trust=True)."
            )


def _named(source: Plan | StudyFile, overridden: Container[str]) -> Iterator[tuple[str, object]]:
    """Yield the keys and values of a plan or a study, wherever they stand.

    A preset that is overridden is not read: it may be gone.
    """
    if isinstance(source, Plan):
        models = list(source.models)
    else:
        models = [study.model_path for study in source.studies.values()]
    yield from (("model", model) for model in models)
    files = [load_yaml(file) for file in source.config_files]
    for settings in (*files, source.overrides, *source.own_arms.values()):
        yield from settings.items()
        preset = settings.get("kt_preset")
        if preset and "kt_preset" not in overridden:
            yield from _of_preset(load_yaml(preset_path(str(preset))))


def _of_preset(content: Settings) -> Iterator[tuple[str, object]]:
    """Yield the keys and values of a preset, those for single models too."""
    for section in (content, *content.get("models", {}).values()):
        yield from section.items()
