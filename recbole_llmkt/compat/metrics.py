"""RecBole's metrics of whole lists: coverage, popularity, inequality."""

from __future__ import annotations

from collections.abc import Callable

import torch
from recbole.evaluator.collector import Collector, DataStruct

from recbole_llmkt.utils.types import Loader


class MetricsCollector(Collector):  # type: ignore[misc]
    """RecBole's collector, with numbers of items beside its tensors.

    ``Collector.get_data_struct`` in ``recbole/evaluator/collector.py`` calls ``cpu()`` on all that
    was collected, and so fails with ItemCoverage, GiniIndex, AveragePopularity and TailPercentage,
    which need counts (no upstream issue is known). ``Collector.data_collect`` counts the padding
    id as an item, so that no coverage could be whole.
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
        for key, value in counts.items():
            values[key] = value
            collected.set(key, value)
        return collected
