"""Find a layer by its dotted path and record what passes there, without changing it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar, Union

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from recbole_llmkt.utils.exceptions import LayerError, nearest

_GRAMMAR = re.compile(
    r"^(?P<path>[A-Za-z_]\w*(\.\w+)*)(?P<call>\(\))?(@(?P<port>input|output))?(?P<index>(\[\d+\])*)$"
)


T = TypeVar("T", bound="Tap")
# What a path names: a module, a parameter or a method.
Place = Union[nn.Module, Tensor, Callable[..., object]]


@dataclass(frozen=True)
class Layer:
    """A place in a model where a hidden state can be read.

    Written as a dotted path: ``user_embedding`` (a module's output),
    ``mlp_layers.mlp_layers.4@input`` (a module's input: its argument, or a tuple of them),
    ``user_embedding.weight`` (a parameter), ``forward()`` or ``encoder.encode()`` (a method's
    result); each may be followed by indices into nested tuples: ``forward()[0]``.

    Attributes
    ----------
    path : str
        Dotted path of the module, parameter or method.
    call : bool
        Whether the path names a method.
    port : str
        ``"output"`` or ``"input"`` (the positional arguments).
    index : tuple of int
        Indices into nested tuples.
    """

    path: str
    call: bool = False
    port: str = "output"
    index: tuple[int, ...] = ()

    @classmethod
    def parse(cls, spec: str) -> Layer:
        """Read a layer as it is written in YAML.

        Raises
        ------
        LayerError
            The text is not written as above.
        """
        match = _GRAMMAR.match(spec.strip())
        if match is None:
            raise LayerError(
                f"Cannot read the layer '{spec}'. Write a dotted path as in 'user_embedding', "
                "'mlp_layers.mlp_layers.4@input', 'user_embedding.weight' or 'forward()[0]'."
            )
        index = tuple(int(number) for number in re.findall(r"\d+", match["index"]))
        return cls(match["path"], bool(match["call"]), match["port"] or "output", index)

    def __str__(self) -> str:
        port = "" if self.port == "output" else f"@{self.port}"
        return f"{self.path}{'()' if self.call else ''}{port}" + "".join(
            f"[{number}]" for number in self.index
        )


@dataclass(frozen=True)
class Call:
    """What one call left at a layer.

    Attributes
    ----------
    value : Tensor
        The recorded tensor itself, part of the graph of gradients.
    ids : Tensor of int64 or None
        What an ``nn.Embedding`` was asked for: ``value[..., :]`` is the row of ``ids[...]``.
    table : Tensor or None
        The table it was looked up in, where a loss on its rows trains them as one on ``value``.
    """

    value: Tensor
    ids: Tensor | None = None
    table: Tensor | None = None


def _methods(module: nn.Module) -> Iterator[str]:
    own = set(dir(type(module))) - set(dir(nn.Module)) | {"forward"}
    for name in sorted(own):
        if not name.startswith("__") and callable(getattr(type(module), name, None)):
            yield name


def tappable(model: nn.Module) -> list[str]:
    """List the paths that name a module, a parameter or a method of ``model``."""
    modules = [name for name, _ in model.named_modules() if name]
    parameters = [name for name, _ in model.named_parameters()]
    return modules + parameters + [f"{name}()" for name in _methods(model)]


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {str(value.dtype)[6:]} tensor of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}: " + "; ".join(
            f"[{i}] {_describe(part)}" for i, part in enumerate(value)
        )
    return f"a {type(value).__name__}"


class Tap:
    """Record a layer while the context is open.

    Parameters
    ----------
    model : nn.Module
        The model to read.
    layer : Layer
        Where to read it.

    Attributes
    ----------
    calls : list of Call
        What was recorded since the last :meth:`clear`, in the order of the calls.
    recording : bool
        Whether calls are recorded; an open tap may :meth:`rest` between steps.

    Raises
    ------
    LayerError
        The model has no such layer.
    """

    def __init__(self, model: nn.Module, layer: Layer) -> None:
        self.layer = layer
        self.owner, self.name, self.place = self._find(model)
        self.calls: list[Call] = []
        self.recording = True
        self._undo: list[Callable[[], None]] = []

    def _find(self, model: nn.Module) -> tuple[nn.Module, str, Place]:
        path, _, name = self.layer.path.rpartition(".")
        try:
            owner = functools.reduce(getattr, path.split("."), model) if path else model
            place = getattr(owner, name)
        except AttributeError:
            raise LayerError(self._unknown(model)) from None
        is_value = isinstance(place, (nn.Module, Tensor))
        fits = callable(place) and not is_value if self.layer.call else is_value
        if not isinstance(owner, nn.Module) or not fits:
            raise LayerError(self._unknown(model))
        return owner, name, place

    def _unknown(self, model: nn.Module) -> str:
        choices = tappable(model)
        wanted = f"{self.layer.path}{'()' if self.layer.call else ''}"
        return (
            f"{type(model).__name__} has no layer '{wanted}'.{nearest(wanted, choices)} "
            f"Choose among: {', '.join(choices)}."
        )

    @property
    def is_parameter(self) -> bool:
        """Whether the layer is a parameter, whole, rather than something computed."""
        return isinstance(self.place, Tensor)

    def rest(self) -> None:
        """Forget what was recorded, and record nothing until :meth:`clear`."""
        self.recording, self.calls = False, []

    def clear(self) -> None:
        """Forget what was recorded, and record; a parameter is there without a call."""
        self.recording = True
        # Read anew: a mask may stand in its place.
        self.calls = [Call(self.pick(getattr(self.owner, self.name)))] if self.is_parameter else []

    def pick(self, value: object) -> Tensor:
        """Follow the layer's indices and make sure that a hidden state lies there."""
        selected = value
        if self.layer.port == "input" and isinstance(value, tuple) and len(value) == 1:
            selected = value[0]
        for position in self.layer.index:
            if not isinstance(selected, (tuple, list)) or position >= len(selected):
                raise LayerError(
                    f"'{self.layer}' has no [{position}]: there is {_describe(value)}."
                )
            selected = selected[position]
        if not isinstance(selected, Tensor) or not selected.is_floating_point():
            raise LayerError(
                f"'{self.layer}' holds {_describe(selected)}, not one tensor of numbers. "
                "Add the index of the tensor to read, as in 'forward()[0]'."
            )
        return selected

    def __enter__(self: T) -> T:
        self.clear()
        if isinstance(self.place, nn.Module):
            self._undo = [self._hook(self.place).remove]
        elif not self.is_parameter:
            self._undo = [self._wrap()]
        return self

    def __exit__(self, *exception: object) -> None:
        for undo in self._undo:
            undo()
        self._undo, self.calls = [], []

    def _hook(self, module: nn.Module) -> RemovableHandle:
        is_table = isinstance(module, nn.Embedding)
        plain = module if isinstance(module, nn.Embedding) and looks_up_plainly(module) else None

        def on_output(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            if self.recording:
                ids = inputs[0] if is_table and inputs else None
                table = plain.weight if plain is not None else None
                self.calls.append(Call(self.pick(output), ids, table))

        def on_input(module: nn.Module, inputs: tuple[object, ...]) -> None:
            if self.recording:
                self.calls.append(Call(self.pick(inputs)))

        if self.layer.port == "output":
            return module.register_forward_hook(on_output)
        return module.register_forward_pre_hook(on_input)

    def _wrap(self) -> Callable[[], None]:
        """Put a recording method on the instance; return what takes it off again."""
        method: Callable[..., object] = getattr(self.owner, self.name)
        had_own = self.name in vars(self.owner)

        @functools.wraps(method)
        def recording(*arguments: object, **keywords: object) -> object:
            result = method(*arguments, **keywords)
            if self.recording:
                seen = result if self.layer.port == "output" else arguments
                self.calls.append(Call(self.pick(seen)))
            return result

        setattr(self.owner, self.name, recording)

        def undo() -> None:
            if had_own:
                setattr(self.owner, self.name, method)
            else:
                delattr(self.owner, self.name)

        return undo


def looks_up_plainly(module: nn.Embedding) -> bool:
    """Tell whether a module returns rows of its table as they are, with a dense gradient.

    Parameters
    ----------
    module : nn.Embedding
        An embedding, or what a subclass has made of it.
    """
    return (
        type(module) is nn.Embedding
        and module.max_norm is None
        and module.padding_idx in (None, 0)
        and not module.sparse
        and not module.scale_grad_by_freq
    )


def parameters_reached(value: Tensor, model: nn.Module) -> list[str]:
    """Name the parameters that a loss on ``value`` would train.

    Parameters
    ----------
    value : Tensor
        A recorded tensor with its graph.
    model : nn.Module
        The model it was recorded in.
    """
    # A walk over the graph: computing gradients would take a backward pass for every layer.
    leaves = {id(value)} if value.is_leaf else set()
    waiting, seen = [value.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaves.add(id(getattr(node, "variable", None)))
        waiting += [before for before, _ in node.next_functions]
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) in leaves
    ]
