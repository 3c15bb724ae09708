"""Profiles by a chat model on this machine, through Hugging Face transformers."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jinja2 import TemplateError

from recbole_llmkt.profiles.generation.generators.base import Answer, Generator, Request
from recbole_llmkt.utils.devices import chosen_device
from recbole_llmkt.utils.exceptions import ConfigError, ProfileError
from recbole_llmkt.utils.progress import late_bars
from recbole_llmkt.utils.types import SettingsLike

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


class _LanguageModel(Protocol):
    """What is needed of a model of ``AutoModelForCausalLM``."""

    config: PretrainedConfig
    generation_config: GenerationConfig
    device: torch.device
    dtype: torch.dtype

    def generate(self, **inputs: object) -> torch.Tensor: ...


class TransformersGenerator(Generator):
    """Ask any chat model that ``AutoModelForCausalLM`` reads.

    Prompts go through the model's own chat template, in batches padded on the left. Device and
    dtype are chosen for you; ``profile_model`` is a hub name, a folder, or a ``.gguf`` file.

    Raises
    ------
    ConfigError
        ``profile_model`` or ``profile_device`` is missing or wrong.
    ProfileError
        The model cannot be loaded, or has no chat template.
    """

    def __init__(self, settings: SettingsLike) -> None:
        super().__init__(settings)
        if not settings["profile_model"]:
            raise ConfigError(
                "profile_generator: transformers needs profile_model: a hub name, a folder or a "
                ".gguf file."
            )
        self._where = _location(settings["profile_model"])
        self._tokenizer = self._load_tokenizer()
        self._language_model: _LanguageModel | None = None

    @classmethod
    def model_of(cls, settings: SettingsLike) -> str:
        """Hub name, or name of the folder or file: paths of this machine stay out of the store."""
        name = str(settings["profile_model"])
        return Path(name).name if os.path.exists(name) else name

    def answer_batch(self, requests: list[Request]) -> list[Answer]:
        """Generate the answers of a batch; prompts that the model cannot read whole fail."""
        prompts = {request.id: self._prompt_ids(request.messages) for request in requests}
        room = self._room()
        fitting = [request for request in requests if len(prompts[request.id]) <= room]
        answers = [
            Answer(
                request.id,
                "",
                history=request.history,
                error=f"the prompt has {len(prompts[request.id])} tokens, and the model reads "
                f"{room} beside its answer: lower profile_max_history or profile_max_tokens",
            )
            for request in requests
            if len(prompts[request.id]) > room
        ]
        return answers + (self._generate(fitting, prompts) if fitting else [])

    def _room(self) -> float:
        """Return the longest prompt that leaves room for the answer; infinite if none is known."""
        config = self._loaded().config
        if hasattr(config, "get_text_config"):  # not before transformers 4.45
            config = config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None)
        return float("inf") if longest is None else longest - self.settings["profile_max_tokens"]

    def count_tokens(self, messages: list[dict[str, str]]) -> int:
        """Count the tokens of a prompt."""
        return len(self._prompt_ids(messages))

    def _generate(self, requests: list[Request], prompts: dict[str, list[int]]) -> list[Answer]:
        model = self._loaded()
        inputs = self._tokenizer.pad(
            {"input_ids": [prompts[request.id] for request in requests]}, return_tensors="pt"
        ).to(model.device)
        temperature = self.settings["profile_temperature"]
        sampling = {"do_sample": True, "temperature": temperature} if temperature else {}
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed((self.settings["profile_seed"] or 0) + requests[0].attempt)
            output = model.generate(
                **inputs,
                **(sampling or {"do_sample": False, "temperature": None, "top_p": None}),
                max_new_tokens=self.settings["profile_max_tokens"],
                pad_token_id=self._tokenizer.pad_token_id,
            )
        new = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [
            self._answer(request, prompts[request.id], tokens)
            for request, tokens in zip(requests, new)
        ]

    def _answer(self, request: Request, prompt: list[int], tokens: list[int]) -> Answer:
        ends = _end_tokens(self._loaded(), self._tokenizer)
        length = next((n for n, token in enumerate(tokens, start=1) if token in ends), None)
        answer = tokens if length is None else tokens[:length]
        return Answer(
            request.id,
            str(self._tokenizer.decode(answer, skip_special_tokens=True)),
            history=request.history,
            tokens_in=len(prompt),
            tokens_out=len(answer),
            cut_off=length is None,
        )

    def _prompt_ids(self, messages: list[dict[str, str]]) -> list[int]:
        try:
            text = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False
            )
        except TemplateError:
            # Some families, Gemma for one, know no system role.
            merged = "\n\n".join(message["content"] for message in messages)
            text = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": merged}], add_generation_prompt=True, tokenize=False
            )
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _load_tokenizer(self) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        name = self.settings["profile_model"]
        try:
            tokenizer = AutoTokenizer.from_pretrained(**self._where, padding_side="left")
        except (OSError, ValueError, ImportError) as error:
            raise _unreadable(name, error) from error
        if not tokenizer.chat_template:
            raise ProfileError(
                f"profile_model '{name}' has no chat template, so it does not answer questions: "
                "choose its '-Instruct' or '-Chat' sibling."
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def _loaded(self) -> _LanguageModel:
        """Load the weights at the first batch: counting tokens needs none."""
        if self._language_model is None:
            from transformers import AutoModelForCausalLM

            name = self.settings["profile_model"]
            device = chosen_device(self.settings["profile_device"])
            try:
                with late_bars():
                    model: Any = AutoModelForCausalLM.from_pretrained(
                        **self._where, torch_dtype="auto"
                    )
            except (OSError, ValueError, ImportError) as error:
                raise _unreadable(name, error) from error
            self._language_model = model.to(device).eval()
            logger.info("Loaded %s on %s as %s.", self.model_of(self.settings), device, model.dtype)
        return self._language_model


def _location(name: str) -> dict[str, str]:
    """Return the arguments of ``from_pretrained`` for a hub name, a folder or a GGUF file."""
    path = Path(name)
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ConfigError(f"profile_model: there is no file '{name}'.")
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return {"pretrained_model_name_or_path": name}


def _unreadable(name: str, error: Exception) -> ProfileError:
    needs = "`pip install gguf accelerate`, if it is a GGUF file; "
    return ProfileError(
        f"profile_model '{name}' cannot be loaded: {str(error).strip().splitlines()[0]} "
        f"Name a folder or a model of the hub; {needs}without a network, a model that is here."
    )


def _end_tokens(model: _LanguageModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the tokens that end an answer; chat models often have several."""
    ends = model.generation_config.eos_token_id
    known = set(ends) if isinstance(ends, (list, tuple)) else {ends}
    return (known | {tokenizer.eos_token_id}) - {None}
