"""Where ports of CLIP differ, and which of them mmjax follows."""

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import jax  # noqa: E402
from flax.core import meta  # noqa: E402

from mmjax.interop.names import to_ours  # noqa: E402
from mmjax.interop.tables.clip import CLIP as TABLE  # noqa: E402
from mmjax.layers.transformer import TransformerConfig  # noqa: E402
from mmjax.systems.clip import TextConfig, TextTransformer  # noqa: E402

LENGTH, VOCABULARY, WIDTH = 7, 20, 8


@pytest.mark.parametrize("eos", [2, VOCABULARY - 1])
def test_text_is_read_at_the_largest_id_whatever_an_old_config_calls_the_end(eos):
    """OpenAI's code reads at argmax(ids), its end of text being the largest id. transformers looks for the
    first `eos_token_id`, but configs of the public weights say 2, and for 2 alone it falls back to argmax.
    mmjax follows OpenAI through `eos_token`, so an ordinary 2 in a caption does not end it."""
    config = transformers.CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=0,
        eos_token_id=eos,
        pad_token_id=1,
    )
    torch.manual_seed(0)
    model = transformers.CLIPTextModel(config).eval()
    end = VOCABULARY - 1
    tokens = np.array([[0, 2, 5, end, 1, 1, 1], [0, 7, 2, 9, 2, end, 1], [0, end, 2, 2, 2, 2, 2]])
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens)).pooler_output.numpy()

    text = TextConfig(
        vocabulary_size=VOCABULARY,
        length=LENGTH,
        eos_token=end,
        transformer=TransformerConfig(
            depth=1, width=WIDTH, heads=2, mlp_width=2 * WIDTH, activation="quick_gelu"
        ),
    )
    module = TextTransformer(text)
    shapes = jax.eval_shape(lambda: meta.unbox(module.init(jax.random.key(0), tokens)["params"]))
    table = {path.removeprefix("text/"): at for path, at in TABLE.items() if path.startswith("text/")}
    weights = {name: w.numpy() for name, w in model.state_dict().items()}
    prefix = "" if any(name.startswith("text_model.") for name in weights) else "text_model."
    weights = {prefix + name: w for name, w in weights.items()}
    actual = module.apply({"params": to_ours(weights, shapes, table)}, tokens)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
