"""Texts that others write with their chat templates are read back.

The packages are installed with --no-deps into a folder of their own, as .ci/run does.
"""

import ast
import importlib
import re
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast
from written import Write, assert_read, conversations

from harmless_runtime import bundled

DEEPSEEK = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
LLAMA = "<s>", "</s>"


def folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"not run: {package} is not here (pip install --no-deps {package})")
    return Path(spec.origin).parent


@cache
def tokenizer() -> Any:
    return PreTrainedTokenizerFast.from_pretrained(bundled.MODEL)


def jinja(template: str, bos: str, eos: str) -> Write:
    """Return what Transformers writes with a template."""

    def write(messages: list[dict[str, str]], is_prompt: bool) -> str:
        text = tokenizer().apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=is_prompt,
            bos_token=bos, eos_token=eos,
        )  # fmt: skip
        assert isinstance(text, str)
        return text

    return write


def trl(name: str, bos: str = "", eos: str = "") -> Write:
    return jinja((folder("trl") / "chat_templates" / f"{name}.jinja").read_text(), bos, eos)


def unsloth(name: str, bos: str = "", eos: str = "") -> Write:
    """Return a template of Unsloth, whose module needs a GPU."""
    with warnings.catch_warnings(action="ignore"):  # those of its source
        tree = ast.parse((folder("unsloth") / "chat_templates.py").read_text())
    (template,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == f"{name}_template"
    ]
    return jinja(template.replace("{system_message}", ""), bos, eos)


def llamafactory(name: str, bos: str = "", eos: str = "") -> Write:
    """Return a template of LLaMA-Factory, whose module needs audio libraries, joined as it does."""
    tree = ast.parse((folder("llamafactory") / "data/template.py").read_text())
    (registered,) = [
        {keyword.arg: keyword.value for keyword in node.value.keywords}
        for node in tree.body
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and any(ast.unparse(k) == f"name='{name}'" for k in node.value.keywords)
    ]

    def form(kind: str, default: list[Any]) -> str:
        call = registered.get(kind)
        assert call is None or isinstance(call, ast.Call)
        slots = ast.literal_eval(call.keywords[0].value) if call else default
        tokens = {"bos_token": bos, "eos_token": eos}
        return "".join(slot if isinstance(slot, str) else tokens[min(slot)] for slot in slots)

    in_question = "Llama2Template" in ast.unparse(registered.get("template_class", ast.Name("")))
    forms = {
        "system": form("format_system", ["{{content}}"]),
        "user": form("format_user", []),
        "assistant": form("format_assistant", ["{{content}}", {"eos_token"}]),
    }
    prefix = form("format_prefix", [])

    def write(messages: list[dict[str, str]], _: bool) -> str:
        texts = [forms[m["role"]].replace("{{content}}", m["content"]) for m in messages]
        if in_question and messages[0]["role"] == "system":
            question = texts.pop(0) + messages[1]["content"]
            texts[0] = forms["user"].replace("{{content}}", question)
        return prefix + "".join(texts)

    return write


def fastchat(name: str, bos: str = "") -> Write:
    folder("fastchat")
    module = importlib.import_module("fastchat.conversation")

    def write(messages: list[dict[str, str]], is_prompt: bool) -> str:
        conversation = module.get_conv_template(name)
        for message in messages:
            if message["role"] == "system":
                begin = conversation.system_message if name == "deepseek-chat" else ""
                end = "\n\n" if begin else ""
                conversation.set_system_message(begin + message["content"] + end)
            else:
                role = conversation.roles[message["role"] == "assistant"]
                conversation.append_message(role, message["content"])
        if is_prompt:
            conversation.append_message(conversation.roles[1], None)
        # After the last answer of Llama 2 stands what the next question begins with.
        return bos + str(conversation.get_prompt()).removesuffix("<s>")

    return write


def mistral(file: str) -> Write:
    """Return what Mistral's own tokenizer encodes, as the text of its tokens."""
    folder("mistral_common")
    package = "mistral_common.tokens.tokenizers.mistral"
    protocol = "mistral_common.protocol.instruct"
    modes = importlib.import_module(f"{protocol}.validator").ValidationMode
    request = importlib.import_module(f"{protocol}.request").ChatCompletionRequest
    path = folder("mistral_common") / "data" / file
    encoders = {
        is_prompt: importlib.import_module(package).MistralTokenizer.from_file(str(path), mode=mode)
        for is_prompt, mode in ((True, modes.test), (False, modes.finetuning))
    }

    def write(messages: list[dict[str, str]], is_prompt: bool) -> str:
        text = encoders[is_prompt].encode_chat_completion(request(messages=messages)).text
        # A character that is no token of its own is a few bytes.
        return re.sub(
            "(?:<0x[0-9A-F]{2}>)+",
            lambda found: bytes.fromhex(re.sub("<0x|>", "", found[0])).decode(),
            text.replace("▁", " "),
        )

    return write


# Each with whether white space around a content is kept.
WRITERS = [
    (trl, ("qwen2_5",), True),
    (trl, ("qwen3",), False),
    (trl, ("qwen3_instruct_2507",), True),
    (trl, ("qwen3_5_nothink",), False),
    (trl, ("qwen3_5_think",), False),
    (trl, ("lfm2", "<|startoftext|>"), True),
    (unsloth, ("chatml",), True),
    (fastchat, ("qwen-7b-chat",), True),
    (unsloth, ("llama", *LLAMA), False),
    (llamafactory, ("llama2", *LLAMA), False),
    (fastchat, ("llama-2", "<s>"), False),
    (trl, ("llama3", "<|begin_of_text|>"), False),
    (trl, ("llama3_1", "<|begin_of_text|>"), False),
    (trl, ("llama3_2", "<|begin_of_text|>"), False),
    (unsloth, ("llama31", "<|begin_of_text|>"), True),
    (llamafactory, ("llama3", "<|begin_of_text|>"), True),
    (llamafactory, ("llama4", "<|begin_of_text|>"), True),
    (trl, ("gemma3", "<bos>"), False),
    (llamafactory, ("gemma2", "<bos>", "<end_of_turn>"), True),
    (trl, ("gemma4", "<bos>"), False),
    (llamafactory, ("gemma4", "<bos>"), True),
    (mistral, ("tokenizer.model.v1",), False),
    (mistral, ("mistral_instruct_tokenizer_240323.model.v3",), False),
    (mistral, ("mistral_instruct_tokenizer_241114.model.v7",), False),
    (mistral, ("tekken_240911.json",), False),
    (unsloth, ("mistral", *LLAMA), False),
    (fastchat, ("mistral", "<s>"), False),
    (llamafactory, ("mistral", *LLAMA), False),
    (llamafactory, ("ministral", *LLAMA), False),
    (llamafactory, ("mistral_small", *LLAMA), False),
    (trl, ("phi3", "<s>", "<|endoftext|>"), True),
    (trl, ("phi3_5", "", "<|endoftext|>"), True),
    (llamafactory, ("phi",), True),
    (llamafactory, ("phi4_mini",), False),
    (unsloth, ("phi4",), True),
    (llamafactory, ("phi4",), True),
    (unsloth, ("zephyr", *LLAMA), True),
    (fastchat, ("zephyr",), True),
    (llamafactory, ("zephyr", *LLAMA), True),
    (fastchat, ("deepseek-chat",), True),
    (llamafactory, ("deepseek", *DEEPSEEK), False),
    (trl, ("deepseekv3", *DEEPSEEK), True),
    (trl, ("deepseek_r1_distill", *DEEPSEEK), True),
    (llamafactory, ("deepseek3", *DEEPSEEK), True),
]


@pytest.mark.parametrize(
    ("kind", "named", "is_kept"),
    WRITERS,
    ids=[f"{kind.__name__}-{named[0]}" for kind, named, _ in WRITERS],
)
def test_a_conversation_is_read_back(kind: Any, named: tuple[str, ...], is_kept: bool) -> None:
    write = kind(*named)

    @settings(max_examples=60, deadline=None)
    @given(conversations(write, not is_kept), st.floats(0, 1))
    def read_back(messages: list[dict[str, str]], part: float) -> None:
        assert_read(write, messages, part)

    read_back()
