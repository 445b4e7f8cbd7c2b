"""The dense models of Qwen3 as transformers lays them out (`Qwen3ForCausalLM`)."""

from typing import Any

from mmjax.interop.families import llama
from mmjax.interop.family import Config, Family
from mmjax.interop.pixels import Pixels
from mmjax.interop.tables.language import LLAMA, QWEN3
from mmjax.systems.language_model import LanguageModel

DEFAULTS = llama.DEFAULTS | dict(max_position_embeddings=32768, head_dim=128, eos_token_id=151645)
TABLE = LLAMA | QWEN3  # the head where it is not tied, and norms of queries and keys


def _read(config: Config, pixels: Pixels | None) -> LanguageModel:
    if config.get("use_sliding_window"):
        raise ValueError("use_sliding_window is true")
    return llama.read(config, DEFAULTS, qk_norm="rms")


def _write(system: LanguageModel) -> dict[str, Any]:
    return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"} | llama.write(system)


FAMILIES = (
    Family(
        name="qwen3",
        kind=LanguageModel,
        read=_read,
        write=_write,
        tables=lambda system: (TABLE,),
        data=llama.data,
        buffers=(r".*\.rotary_emb\.inv_freq",),
        ties=llama.ties,
    ),
)
