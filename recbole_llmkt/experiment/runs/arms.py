"""The arms of a comparison: the keys that each sets, and which arm a control belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from recbole_llmkt.keys.table import check_keys
from recbole_llmkt.utils.exceptions import ConfigError, nearest
from recbole_llmkt.utils.types import Settings

ARMS: dict[str, Settings] = {
    "base": {"kt_enabled": False},
    "kt": {"kt_enabled": True, "kt_control": "none"},
    "shuffled": {"kt_enabled": True, "kt_control": "shuffled"},
    "random": {"kt_enabled": True, "kt_control": "random"},
}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def arm_settings(name: str, own: Mapping[str, Settings]) -> Settings:
    """Return the keys that an arm sets.

    Parameters
    ----------
    name : str
        One of :data:`ARMS`, one of ``own``, or ``NAME+CONTROL``: the own arm ``NAME`` with
        ``kt_control: CONTROL``.
    own : mapping
        Own arms: keys and values over those of the arm ``kt``.

    Raises
    ------
    ConfigError
        An unknown arm or control, or a name that cannot be a folder name.

    Examples
    --------
    >>> arm_settings("init+shuffled", {"init": {"kt_init": "targets"}})
    {'kt_enabled': True, 'kt_control': 'shuffled', 'kt_init': 'targets'}
    """
    for own_name in own:
        _check_name(own_name)
    if name in ARMS:
        return dict(ARMS[name])
    known, plus, control = name.partition("+")
    if plus and known in ARMS:
        raise ConfigError(
            f"Unknown arm '{name}': the controls of the arm kt are called shuffled and random. "
            'NAME+CONTROL is for your own arms: --arm "mine: kt_weight=0.3" has mine+shuffled.'
        )
    if known not in own:
        choices = [*ARMS, *own]
        raise ConfigError(
            f"Unknown arm '{name}': choose among {', '.join(choices)}, or define it with "
            f'--arm "{known}: KEY=VALUE ...".{nearest(name, choices)}'
        )
    settings = {**ARMS["kt"], **own[known]}
    if plus:
        settings["kt_control"] = control
        check_keys(settings, f"the arm '{name}' (NAME+CONTROL)")
    return settings


def _check_name(name: str) -> None:
    if name in ARMS or not _NAME.fullmatch(name):
        raise ConfigError(
            f"An arm cannot be called '{name}': use letters, digits, '_', '.' and '-', but "
            f"none of {', '.join(ARMS)}. Controls need no definition: add "
            "NAME+shuffled to --arms."
        )


def control_of(arm: str, control: str = "shuffled") -> str:
    """Return the name of an arm's control.

    Examples
    --------
    >>> control_of("kt"), control_of("init"), control_of("init", "random")
    ('shuffled', 'init+shuffled', 'init+random')
    """
    return control if arm == "kt" else f"{arm}+{control}"


def arm_of(control: str) -> str:
    """Return the name of the arm that a control belongs to; any other arm's own name.

    Examples
    --------
    >>> arm_of("shuffled"), arm_of("init+random"), arm_of("base")
    ('kt', 'init', 'base')
    """
    return "kt" if control in ("shuffled", "random") else control.partition("+")[0]


def in_order(arms: Iterable[str]) -> list[str]:
    """Sort arms: the built-in ones first, and each control after its arm.

    Examples
    --------
    >>> in_order(["kar", "init", "kar+shuffled", "base", "init+shuffled"])
    ['base', 'kar', 'kar+shuffled', 'init', 'init+shuffled']
    """
    known = list(dict.fromkeys(arms))
    own = [arm for arm in known if arm not in ARMS]
    names = list(dict.fromkeys(arm.partition("+")[0] for arm in own))
    built_in = [arm for arm in ARMS if arm in known]
    return built_in + sorted(own, key=lambda arm: (names.index(arm.partition("+")[0]), "+" in arm))
