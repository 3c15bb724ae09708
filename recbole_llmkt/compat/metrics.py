"""RecBole's metrics of whole lists: coverage, popularity, inequality."""

from __future__ import annotations

from collections.abc import Callable

import torch
from recbole.evaluator.collector import Collector, DataStruct

from recbole_llmkt.utils.processes import gathered, process_count
from recbole_llmkt.utils.types import Loader


class MetricsCollector(Collector):  # type: ignore[misc]
    """RecBole's collector, with numbers of items beside its tensors.

    ``Collector.get_data_struct`` in ``recbole/evaluator/collector.py`` calls ``cpu()`` on all that
    was collected, and so fails with ItemCoverage, GiniIndex, AveragePopularity and TailPercentage,
    which need counts (no upstream issue is known). ``Collector.data_collect`` counts the padding
    id as an item, so that no coverage could be whole.

    With several processes ``Trainer._map_reduce`` in ``recbole/trainer/trainer.py`` takes the mean
    of their rounded metrics, each weighted by its number of batches, which is no metric of all
    users. Here each process gets what all of them collected.
    """

    def data_collect(self, train_data: Loader) -> None:
        """Collect what metrics need to know of the training part.

        Parameters
        ----------
        train_data : AbstractDataLoader
            RecBole's loader of it.
        """
        dataset = train_data._dataset
        counts: dict[str, Callable[[], object]] = {
            "data.num_items": lambda: dataset.item_num - 1,
            "data.num_users": lambda: dataset.user_num - 1,
            "data.count_items": lambda: dataset.item_counter,
            "data.count_users": lambda: dataset.user_counter,
        }
        for key, count in counts.items():
            if self.register.need(key):
                self.data_struct.set(key, count())

    def get_data_struct(self) -> DataStruct:
        """Return what was collected, and forget what belongs to one evaluation."""
        values = self.data_struct._data_dict
        counts = {
            key: value for key, value in values.items() if not isinstance(value, torch.Tensor)
        }
        for key in counts:
            del values[key]
        collected = super().get_data_struct()
        _join(collected._data_dict)
        for key, value in counts.items():
            values[key] = value
            collected.set(key, value)
        return collected


def _join(collected: dict[str, torch.Tensor]) -> None:
    """Add the rows of the other processes; a process may have none."""
    if process_count() > 1:
        parts = gathered(collected.copy())
        for key in dict.fromkeys(key for part in parts for key in part):
            collected[key] = torch.cat([part[key] for part in parts if key in part])
