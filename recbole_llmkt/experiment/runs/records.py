"""What a results file says of a run: a typed record for each line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

from recbole_llmkt.utils.jsonl import Fields
from recbole_llmkt.utils.types import Metrics, Settings

OK, FAILED = "ok", "failed"
RunKey = tuple[str, str, int, str]
# The JSON object of a line.
Record = Settings


@dataclass(frozen=True)
class Winner:
    """The keys that tuning chose for an arm, and how it came to them.

    Attributes
    ----------
    keys : dict
        The keys it changes, with their values.
    trial : int
        Number of the trial.
    metric : str
        The validation metric.
    score : float
        Its mean over seeds.
    trials, failed : int
        Finished trials of the arm, failed ones included; those that failed.
    seed : int
        Seed of the trials.
    space : str
        Digest of the search space.
    finalists, finals : int
        Trials in the final round, and its runs.
    seeds : int
        Seeds behind the score.
    unequal : bool
        Whether another arm of the model had a different budget.
    fell_back : bool
        Whether none of the arm's trials was as good as the best of base: then the arm runs as
        base, with its keys and without profiles.
    """

    keys: Settings
    trial: int
    metric: str
    score: float
    trials: int
    failed: int
    seed: int
    space: str
    finalists: int = 0
    finals: int = 0
    seeds: int = 1
    unequal: bool = False
    fell_back: bool = False

    @classmethod
    def read(cls, fields: Fields) -> Winner:
        """Read the object ``tuned`` of a line."""
        return cls(
            keys=fields.required("keys", dict),
            trial=fields.required("trial", int),
            metric=fields.required("metric", str),
            score=fields.required("score", float),
            trials=fields.required("trials", int),
            failed=fields.required("failed", int),
            seed=fields.required("seed", int),
            space=fields.required("space", str),
            finalists=fields.with_default("finalists", 0),
            finals=fields.with_default("finals", 0),
            seeds=fields.with_default("seeds", 1),
            unequal=fields.with_default("unequal", False),
            fell_back=fields.with_default("fell_back", False),
        )

    @property
    def budget(self) -> tuple[int, int, int]:
        """Return what every arm of a model must have had as much of."""
        return (self.trials, self.finalists, self.seeds)


@dataclass(frozen=True)
class SlicePart:
    """The test metrics of one part of a slice (see :mod:`recbole_llmkt.evaluation.slices`)."""

    slice: str
    part: str
    bounds: str
    users: int
    rows: int
    metrics: Metrics

    @classmethod
    def read(cls, fields: Fields) -> SlicePart:
        """Read one of a line's ``slices``."""
        return cls(
            slice=fields.required("slice", str),
            part=fields.required("part", str),
            bounds=fields.required("bounds", str),
            users=fields.required("users", int),
            rows=fields.required("rows", int),
            metrics=fields.mapping("metrics", float),
        )


@dataclass(frozen=True)
class RunResult:
    """What training returned, as far as records keep it.

    Attributes
    ----------
    score : float or None
        The best validation score; None without validation.
    valid, test : mapping
        Metrics of the validation and of the test part.
    transfer : dict, optional
        Facts of the transfer; None without it.
    slices : sequence of SlicePart
        Test metrics of parts of the users and items.
    """

    score: float | None
    valid: Metrics
    test: Metrics
    transfer: Settings | None = None
    slices: Sequence[SlicePart] = ()

    @classmethod
    def read(cls, fields: Fields) -> RunResult:
        """Read what :func:`recbole_llmkt.quick_start.train` returned, as plain values."""
        return cls(
            score=fields.optional("best_valid_score", float),
            valid=fields.mapping("best_valid_result", float),
            test=fields.mapping("test_result", float),
            transfer=_transfer(fields),
            slices=tuple(map(SlicePart.read, fields.parts("slices"))),
        )


@dataclass(frozen=True)
class RunRecord:
    """One run of a comparison: a line of ``results.jsonl``.

    Attributes
    ----------
    model, arm, dataset : str
        Names.
    seed : int
        RecBole's ``seed``.
    digest : str
        Of the settings, when the run was made.
    status : str
        ``"ok"`` or ``"failed"``.
    seconds : float
        How long it took.
    time : datetime, optional
        When it ended.
    settings : dict
        The keys that decide the result.
    arm_keys : sequence of str, optional
        Keys that the arm sets; None in lines of versions that did not note them.
    data : str
        Digest of the dataset's files; "" if unknown.
    versions : dict
        Of the packages that decide a result.
    tuned : Winner, optional
        What tuning chose.
    command : str
        What it was started with; "" from Python.
    error : str
        Why the run failed.
    test, valid : mapping
        Metrics of the test and the validation part; empty for a failed run.
    epochs : int, optional
        Epochs trained.
    curve : sequence of (int, float)
        Epoch and validation score.
    transfer : dict, optional
        Facts of the transfer.
    slices : sequence of SlicePart
        Test metrics of parts of the users and items.
    """

    model: str
    arm: str
    seed: int
    dataset: str
    digest: str
    status: str = OK
    seconds: float = 0.0
    time: datetime | None = None
    settings: Settings = field(default_factory=dict)
    arm_keys: Sequence[str] | None = None
    data: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    tuned: Winner | None = None
    command: str = ""
    error: str = ""
    test: Metrics = field(default_factory=dict)
    valid: Metrics = field(default_factory=dict)
    epochs: int | None = None
    curve: Sequence[tuple[int, float]] = ()
    transfer: Settings | None = None
    slices: Sequence[SlicePart] = ()

    @property
    def ok(self) -> bool:
        """Return whether the run succeeded."""
        return self.status == OK

    @property
    def key(self) -> RunKey:
        """Return what identifies the run in its folder; equals ``Run.key``."""
        return (self.model, self.arm, self.seed, self.dataset)

    @property
    def name(self) -> str:
        """Return the run's name, which is also that of its folder; equals ``Run.name``."""
        return f"{self.model}-{self.arm}-{self.seed}"

    @classmethod
    def read(cls, fields: Fields) -> RunRecord:
        """Read a line.

        Raises
        ------
        DataError
            A field is missing or has a wrong type.
        """
        tuned = fields.optional("tuned", dict)
        return cls(
            model=fields.required("model", str),
            arm=fields.required("arm", str),
            seed=fields.required("seed", int),
            dataset=fields.required("dataset", str),
            digest=fields.required("digest", str),
            status=fields.choice("status", (OK, FAILED)),
            seconds=fields.with_default("seconds", 0.0),
            time=_time(fields),
            settings=fields.with_default("settings", {}),
            arm_keys=fields.optional_items("arm_keys", str),
            data=fields.with_default("data", ""),
            versions=fields.mapping("versions", str),
            tuned=None if tuned is None else Winner.read(fields.part("tuned")),
            command=fields.with_default("command", ""),
            error=fields.with_default("error", ""),
            test=fields.mapping("test", float),
            valid=fields.mapping("valid", float),
            epochs=fields.optional("epochs", int),
            curve=[_point(point, fields) for point in fields.items("curve", list)],
            transfer=_transfer(fields),
            slices=tuple(map(SlicePart.read, fields.parts("slices"))),
        )

    def to_json(self) -> Record:
        """Return the line's JSON object."""
        values: Record = {
            "model": self.model,
            "arm": self.arm,
            "seed": self.seed,
            "dataset": self.dataset,
            "digest": self.digest,
            "status": self.status,
            "seconds": self.seconds,
        }
        if self.time is not None:
            values["time"] = self.time.isoformat()
        values["settings"] = dict(self.settings)
        if self.arm_keys is not None:
            values["arm_keys"] = list(self.arm_keys)
        values |= {"data": self.data, "versions": dict(self.versions)}
        if self.tuned is not None:
            values["tuned"] = asdict(self.tuned)
        if self.command:
            values["command"] = self.command
        if not self.ok:
            return {**values, "error": self.error}
        return {
            **values,
            "test": dict(self.test),
            "valid": dict(self.valid),
            "epochs": self.epochs,
            "curve": [list(point) for point in self.curve],
            "transfer": self.transfer,
            "slices": [asdict(part) for part in self.slices],
        }


def _time(fields: Fields) -> datetime | None:
    text = fields.optional("time", str)
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        raise fields.error(f"'time' must be a date and time, not '{text}'") from None


def _transfer(fields: Fields) -> Settings | None:
    """Return the facts of a transfer; where it used profiles, their types are checked."""
    if fields.optional("transfer", dict) is None:
        return None
    transfer = fields.part("transfer")
    transfer.optional("phase_switch", float)
    for name in transfer.names():
        values = transfer.value(name)
        if isinstance(values, list) and any(isinstance(value, dict) for value in values):
            for use in transfer.parts(name):
                use.optional("coverage", float)
                use.items("tables", str)
                for fact in ("entity", "texts"):
                    use.optional(fact, str)
    return fields.required("transfer", dict)


def _point(values: Sequence[object], fields: Fields) -> tuple[int, float]:
    if len(values) == 2:
        epoch, score = values
        if isinstance(epoch, int) and isinstance(score, (int, float)):
            return epoch, score
    raise fields.error(f"'curve' must hold pairs of epoch and score, not {values}")


def of_arm(records: Iterable[RunRecord], model: str, arm: str) -> list[RunRecord]:
    """Return the records of an arm of a model."""
    return [record for record in records if (record.model, record.arm) == (model, arm)]
