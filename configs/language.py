"""A language model on the captions of the OpenMoji world; it reads no pictures.

    mmjax train --config language:openmoji --workdir runs/language

Flamingo can start from it: `flamingo:openmoji` has layers of the same shape and reads them in groups.

    --config.training.initialize="('vision=runs/clip:vision', 'language/groups/stack=runs/language:stack')"

Variants:
  tiny        seconds on a laptop; for tests
  openmoji    the language model of `flamingo:openmoji` (default)
"""

from ml_collections import ConfigDict

from mmjax.config import load

TRAINING = {
    "tiny": dict(steps=20, batch_size=16, log_every=5),
    "openmoji": dict(steps=2000, batch_size=128, log_every=20),
}


def get_config(arg: str | None = None) -> ConfigDict:
    variant = arg or "openmoji"
    training, flamingo = TRAINING[variant], load(f"flamingo:{variant}")
    decoder = dict(flamingo.model.language.to_dict(), cross_every=0)
    return ConfigDict(
        dict(
            system="mmjax.systems.language_model.LanguageModel",
            model=dict(decoder=decoder),
            data=dict(flamingo.data.to_dict(), text_length=19, template="<bos>{caption}<eos>"),
            training=training,
            optimizer=dict(learning_rate=2e-3, warmup=training["steps"] // 20, weight_decay=0.1),
        )
    )
